// SPDX-License-Identifier: MIT
// What this CPU and its operating system allow: one ordered list of kernel levels.
//
// A level stands for all the instructions its kernel files are compiled with (cmake/kernels.cmake) and includes every
// lower level of the same architecture. AVX needs the system to save its registers (xgetbv), AMX also a permission from
// Linux for the process (arch_prctl), which detection asks for.
#ifndef FM_BASE_CPUINFO_H
#define FM_BASE_CPUINFO_H

#include <stdbool.h>

#include "fathom/status.h"

enum fm__cpu_level {
    FM__CPU_REF,    // plain C
    FM__CPU_AVX2,   // + FMA, F16C, BMI2
    FM__CPU_AVX512, // F, BW, VL, DQ
    FM__CPU_VNNI,   // + VBMI
    FM__CPU_BF16,
    FM__CPU_AMX, // tiles of int8 and bf16
    FM__CPU_NEON,
    FM__CPU_DOTPROD,
    FM__CPU_I8MM,
    FM__CPU_LEVELS
};

// "ref", "avx2", …; NULL for a number that is none.
const char *fm__cpu_level_name(int level);

// Whether this process may run kernels of `level`. Asks the CPU each time (a trap in a virtual machine): callers keep
// the answer. Thread safe.
bool fm__cpu_has(int level);

// *level = the highest level that runs here, or the one that the environment variable FATHOM_CPU names.
// Errors: FM_E_ARG, FATHOM_CPU names no level; FM_E_UNSUPPORTED, it names one that does not run here.
// The same for a level given by name; NULL or "": the highest.
fm_status fm__cpu_choose(const char *wanted, int *level, struct fm_error *err);
fm_status fm__cpu_detect(int *level, struct fm_error *err);

#endif

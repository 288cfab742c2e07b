// SPDX-License-Identifier: MIT
// CPU levels by cpuid and xgetbv on x86-64, by the auxiliary vector on AArch64.
#include "base/cpuinfo.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const char *const names[FM__CPU_LEVELS] = {
    [FM__CPU_REF] = "ref",   [FM__CPU_AVX2] = "avx2",       [FM__CPU_AVX512] = "avx512",
    [FM__CPU_VNNI] = "vnni", [FM__CPU_BF16] = "bf16",       [FM__CPU_AMX] = "amx",
    [FM__CPU_NEON] = "neon", [FM__CPU_DOTPROD] = "dotprod", [FM__CPU_I8MM] = "i8mm",
};

const char *fm__cpu_level_name(int level)
{
    return level >= 0 && level < FM__CPU_LEVELS ? names[level] : NULL;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

// Linux: arch/x86/include/uapi/asm/prctl.h; 18 is the state component of the tile data
enum { REQUEST_XCOMP_PERMISSION = 0x1023, XFEATURE_TILEDATA = 18 };

static uint64_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool all(uint32_t word, uint32_t bits)
{
    return (word & bits) == bits;
}

static int highest(void)
{
    uint32_t a, b, c, d, basic_c, ext_a = 0;
    if (!__get_cpuid(1, &a, &b, &basic_c, &d)) return FM__CPU_REF;
    // OSXSAVE, AVX, F16C, FMA
    if (!all(basic_c, 1u << 27 | 1u << 28 | 1u << 29 | 1u << 12)) return FM__CPU_REF;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return FM__CPU_REF;
    const uint32_t sub_leaves = a, ebx = b, ecx = c, edx = d;
    if (sub_leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) ext_a = a;
    const uint64_t saved = saved_registers();
    if (!(all(ebx, 1u << 5 | 1u << 8) && (saved & 6) == 6)) return FM__CPU_REF; // AVX2, BMI2; XMM and YMM state
    // F, DQ, BW, VL; opmask, upper ZMM halves, ZMM 16-31
    if (!(all(ebx, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) && (saved & 0xe0) == 0xe0)) return FM__CPU_AVX2;
    if (!all(ecx, 1u << 11 | 1u << 1)) return FM__CPU_AVX512; // VNNI, VBMI
    if (!all(ext_a, 1u << 5)) return FM__CPU_VNNI;            // AVX512_BF16
    // AMX bf16, tile, int8; tile configuration and data
    if (!(all(edx, 1u << 22 | 1u << 24 | 1u << 25) && (saved & 0x60000) == 0x60000)) return FM__CPU_BF16;
    return syscall(SYS_arch_prctl, REQUEST_XCOMP_PERMISSION, XFEATURE_TILEDATA) ? FM__CPU_BF16 : FM__CPU_AMX;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

static int highest(void)
{
    const unsigned long dotprod_and_half = 1ul << 20 | 1ul << 10; // ASIMDDP, ASIMDHP of AT_HWCAP
    if ((getauxval(AT_HWCAP) & dotprod_and_half) != dotprod_and_half) return FM__CPU_NEON;
    return getauxval(AT_HWCAP2) & 1ul << 13 ? FM__CPU_I8MM : FM__CPU_DOTPROD;
}

#else

static int highest(void)
{
    return FM__CPU_REF;
}
#endif

static bool included(int level, int best)
{
    if (level == FM__CPU_REF || level == best) return true;
    const int first = best >= FM__CPU_NEON ? FM__CPU_NEON : FM__CPU_AVX2;
    return level >= first && level <= best;
}

bool fm__cpu_has(int level)
{
    return fm__cpu_level_name(level) && included(level, highest());
}

fm_status fm__cpu_choose(const char *wanted, int *level, struct fm_error *err)
{
    const int best = highest();
    *level = FM__CPU_REF;
    if (!wanted || !*wanted) {
        *level = best;
        return FM_OK;
    }
    for (int i = 0; i < FM__CPU_LEVELS; i++) {
        if (strcmp(names[i], wanted)) continue;
        if (!included(i, best))
            return fm__fail(err, FM_E_UNSUPPORTED, "CPU level %s: this machine runs levels up to %s", wanted,
                            names[best]);
        *level = i;
        return FM_OK;
    }
    return fm__fail(err, FM_E_ARG,
                    "CPU level %s: unknown level, want ref, avx2, avx512, vnni, bf16, amx, neon, dotprod or i8mm",
                    wanted);
}

fm_status fm__cpu_detect(int *level, struct fm_error *err)
{
    return fm__cpu_choose(getenv("FATHOM_CPU"), level, err);
}

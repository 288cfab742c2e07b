// SPDX-License-Identifier: MIT
// What the CPU device asks of the packed weight layouts (device/cpu/pack.h has them).
#ifndef FM_DEVICE_CPU_LAYOUTS_H
#define FM_DEVICE_CPU_LAYOUTS_H

#include "fathom/tensor.h"

// Every matrix is packed above level ref, where kernels for it exist; linear takes q8a rows for block formats,
// q8r rows for I8.
int fm__cpu_layout(const struct fm_tensor *w, int level); // FM_LAYOUT_ROWS or a packed one
size_t fm__cpu_packed_bytes(const struct fm_tensor *w);   // of w in w->layout
void fm__cpu_pack(const struct fm_tensor *w, int64_t row0, int64_t n, const void *file_rows);
void fm__cpu_unpack(const struct fm_tensor *w, int64_t row0, int64_t n, void *file_rows);
fm_dtype fm__cpu_activation(const struct fm_tensor *w, int level); // FM_F32, FM_Q8A or FM_Q8R

#endif

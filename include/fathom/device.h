// SPDX-License-Identifier: MIT
// Devices: what runs programs. "cpu" is always there; "sim" is a separate-memory device for tests, backed by the
// reference kernels, that delays and reorders what may be reordered.
#ifndef FATHOM_DEVICE_H
#define FATHOM_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_device;

struct fm_device_opts {
    int threads;       // cpu: 0 is every CPU the process may use
    const char *level; // cpu: highest kernel level ("ref", "avx2", …); NULL: what the machine has, or FATHOM_CPU
    uint64_t seed;     // sim: order and delays
    size_t memory;     // sim: bytes it has; 0 is 1 GiB
    int64_t fail_at;   // sim: the submission that fails, counted from 1; 0: none
};

struct fm_device_props {
    const char *name;  // "cpu", "sim"
    const char *level; // kernel level, or ""
    int threads;
    int host_visible; // 1: tensors of this device have host addresses
    size_t alignment; // of every tensor in its memory
};

// Opens a device by name; opts NULL: defaults. Lifetime: longer than every model and plan on it.
// Errors: FM_E_NOT_FOUND (names the devices there are), FM_E_ARG, FM_E_NOMEM.
FM_API fm_status fm_device_open(const char *name, const struct fm_device_opts *opts, struct fm_device **out,
                                struct fm_error *err);
FM_API void fm_device_close(struct fm_device *device); // NULL is fine
FM_API void fm_device_get_props(const struct fm_device *device, struct fm_device_props *props);

#ifdef __cplusplus
}
#endif
#endif

// SPDX-License-Identifier: MIT
// The registry of devices and the defaults of their vtable's empty slots.
#include "device/device.h"

#include <string.h>

#include "base/error.h"
#include "tensor/buffer.h"

static const struct fm__device_vtable *const devices[] = {&fm__device_cpu, &fm__device_sim};

fm_status fm_device_open(const char *name, const struct fm_device_opts *opts, struct fm_device **out,
                         struct fm_error *err)
{
    static const struct fm_device_opts defaults;
    *out = NULL;
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (!strcmp(devices[i]->name, name)) return devices[i]->open(opts ? opts : &defaults, out, err);
    return fm__fail(err, FM_E_NOT_FOUND, "device \"%s\": not known, want cpu or sim", name);
}

void fm_device_close(struct fm_device *device)
{
    if (device) device->v->close(device);
}

void fm_device_get_props(const struct fm_device *device, struct fm_device_props *props)
{
    device->v->props(device, props);
}

fm_status fm__device_copy_in(struct fm_device *d, struct fm_buffer *to, size_t at, const void *from, size_t n,
                             struct fm_error *err)
{
    if (d->v->copy_in) return d->v->copy_in(d, to, at, from, n, err);
    memcpy((char *)to->host + at, from, n);
    return FM_OK;
}

fm_status fm__device_copy_out(struct fm_device *d, const struct fm_buffer *from, size_t at, void *to, size_t n,
                              struct fm_error *err)
{
    if (d->v->copy_out) return d->v->copy_out(d, from, at, to, n, err);
    memcpy(to, (const char *)from->host + at, n);
    return FM_OK;
}

int fm__device_weight_layout(struct fm_device *d, const struct fm_tensor *w)
{
    return d->v->weight_layout ? d->v->weight_layout(d, w) : FM_LAYOUT_ROWS;
}

size_t fm__device_weight_bytes(struct fm_device *d, const struct fm_tensor *w)
{
    return w->layout == FM_LAYOUT_ROWS ? fm_tensor_bytes(w) : d->v->weight_bytes(d, w);
}

fm_status fm__device_weight_write(struct fm_device *d, const struct fm_tensor *w, int64_t row0, int64_t n,
                                  const void *file_rows, struct fm_error *err)
{
    if (w->layout != FM_LAYOUT_ROWS) return d->v->weight_write(d, w, row0, n, file_rows, err);
    size_t row = fm_dtype_row_bytes(w->dtype, w->dims[w->rank - 1]);
    return fm__device_copy_in(d, w->buffer, w->offset + (size_t)row0 * row, file_rows, (size_t)n * row, err);
}

fm_status fm__device_weight_read(struct fm_device *d, const struct fm_tensor *w, int64_t row0, int64_t n,
                                 void *file_rows, struct fm_error *err)
{
    if (w->layout != FM_LAYOUT_ROWS) return d->v->weight_read(d, w, row0, n, file_rows, err);
    size_t row = fm_dtype_row_bytes(w->dtype, w->dims[w->rank - 1]);
    return fm__device_copy_out(d, w->buffer, w->offset + (size_t)row0 * row, file_rows, (size_t)n * row, err);
}

struct fm__pool *fm__device_pool(struct fm_device *d)
{
    return d->v->pool ? d->v->pool(d) : NULL;
}

// SPDX-License-Identifier: MIT
// Which files a path of images stands for.
#ifndef FM_TRAIN_DATA_IMAGES_H
#define FM_TRAIN_DATA_IMAGES_H

#include "train/data_internal.h"

// Adds to the dataset's files: of a folder every CLASS/NAME.png|jpg|jpeg in byte order, else the IDX file of images and
// the one of their labels.
fm_status fm__images_list(struct fm__dataset *data, const char *path, struct fm_error *err);
// What of a path says something about the sample: its last two parts (class and name).
fm_status fm__images_add_name(const char *path, struct fm__sha256 *sha, struct fm_error *err);

#endif

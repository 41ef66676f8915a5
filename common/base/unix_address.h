/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Addresses of Unix sockets at paths of any length.  sockaddr_un has room for
 * 107 bytes, and a state directory may well lie deeper; a longer path is named
 * through a descriptor of its directory, "/proc/self/fd/N/NAME".
 */

#include <sys/socket.h>
#include <sys/un.h>
#include "common/base/error.h"

struct unix_address {
        struct sockaddr_un sun;
        socklen_t n_bytes;
        int directory_fd; /* keeps /proc/self/fd/N valid; -1 for a short path */
};

#define UNIX_ADDRESS_NULL ((struct unix_address){ .directory_fd = -1 })

/*
 * unix_address_init() - the address of the socket at @path, for bind() and connect()
 *
 * Return: 0 or a negative errno with a text; then @ret needs no unix_address_deinit().
 */
must_check_ int unix_address_init(struct unix_address *ret, const char *path, struct error *e);
void unix_address_deinit(struct unix_address *a);

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Operations: what azpard does when a client of the control socket asks for it.
 *
 * The control socket decides who may ask and how it is said; here a struct daemon is looked at or changed.
 * @userdata of each is the struct daemon.
 */

#include "daemon/control.h"

extern const struct control_ops operations;

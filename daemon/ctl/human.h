/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Numbers as people read them, three significant digits.  Each function returns
 * its text by value, so that it can stand in an argument list:
 * printf("%s", human_bytes(n).text).  What is not a finite number is "-".
 */

struct human {
        char text[32];
};

/* "0.123", "12.3", "999", "1.23k", "4.56M"; whole numbers below 1000 without decimals. */
struct human human_number(double number);

/* "12 B", "3.40 MB": powers of 1000. */
struct human human_bytes(double bytes);

/* "0.85 ms", "12.3 s", "3 min 12 s", "5 h 3 min", "2 d 4 h". */
struct human human_duration(double seconds);

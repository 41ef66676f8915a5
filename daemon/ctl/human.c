/* SPDX-License-Identifier: MIT */
/* Numbers as people read them; see human.h.  Used by azparctl. */
#include "daemon/ctl/human.h"

#include <math.h>
#include <stdio.h>

/* Three significant digits of @number in [0, 999.5); a whole one as it is. */
static struct human print_short(const char *sign, double number, const char *unit) {
        struct human h;
        int decimals;

        if (number == floor(number) || number >= 99.95)
                decimals = 0;
        else if (number >= 9.995)
                decimals = 1;
        else
                decimals = number >= 0.9995 ? 2 : 3;
        (void) snprintf(h.text, sizeof(h.text), "%s%.*f%s", sign, decimals, number, unit);
        return h;
}

static struct human scaled(double number, const char *const units[static 6]) {
        const char *sign = number < 0 ? "-" : "";
        unsigned i = 0;

        if (!isfinite(number))
                return (struct human){ "-" };
        number = fabs(number);
        while (number >= 999.5 && i < 5) {
                number /= 1000;
                i++;
        }
        if (number >= 999.5)
                return (struct human){ "a lot" };
        return print_short(sign, number, units[i]);
}

struct human human_number(double number) {
        static const char *const units[6] = { "", "k", "M", "G", "T", "P" };

        return scaled(number, units);
}

struct human human_bytes(double bytes) {
        static const char *const units[6] = { " B", " kB", " MB", " GB", " TB", " PB" };

        return scaled(bytes, units);
}

struct human human_duration(double seconds) {
        static const struct {
                double seconds, rest_seconds;
                const char *name, *rest_name;
        } steps[] = { { 60, 1, "min", "s" }, { 3600, 60, "h", "min" }, { 86400, 3600, "d", "h" } };
        struct human h;
        unsigned i = 2;
        double n;

        if (!isfinite(seconds) || seconds < 0)
                return (struct human){ "-" };
        if (seconds > 0 && seconds < 0.9995)
                return print_short("", seconds * 1000, " ms");
        if (seconds < 60)
                return print_short("", seconds < 9.995 ? seconds : floor(seconds), " s");
        while (i > 0 && seconds < steps[i].seconds)
                i--;
        n = floor(seconds / steps[i].seconds);
        if (n > 99999)
                return (struct human){ "ages" };
        (void) snprintf(h.text, sizeof(h.text), "%.0f %s %.0f %s", n, steps[i].name,
                        floor((seconds - n * steps[i].seconds) / steps[i].rest_seconds), steps[i].rest_name);
        return h;
}

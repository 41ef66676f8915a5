# SPDX-License-Identifier: MIT
# The fields of the structs that lie in shared memory and files, from their headers: a row FIELD() or ARRAY() of C for
# each, so that none can be forgotten. facts.c turns them into offsets and sizes.

BEGIN {
        types["uint64_t"] = "u64"
        types["uint32_t"] = "u32"
        types["unsigned char"] = "u8"
        types["char"] = "char"
        n_wanted = split("lane_shared segment_header segment_trainer segment_worker window_header window_mark", wanted)
}

{ text = text $0 "\n" }

function trim(s) {
        gsub(/^[ \t\n]+|[ \t\n]+$/, "", s)
        return s
}

# One declaration: "_Alignas(LANE_LINE) _Atomic uint64_t a, b", "char x[N]", "struct lane_shared lane".
function declaration(name, d,    type, list, n, i, field) {
        gsub(/_Alignas\([^)]*\)|_Atomic/, "", d)
        d = trim(d)
        if (d == "")
                return
        if (match(d, /^struct [a-z_]+ /)) {
                inner(name, substr(d, 8, RLENGTH - 8), trim(substr(d, RLENGTH)))
                return
        }
        if (!match(d, /^(unsigned char|char|uint64_t|uint32_t) /)) {
                print "#error struct " name ": what is '" d "'?"
                return
        }
        type = substr(d, 1, RLENGTH - 1)
        n = split(substr(d, RLENGTH), list, ",")
        for (i = 1; i <= n; i++) {
                field = trim(list[i])
                if (sub(/\[.*\]$/, "", field))
                        row(name, "ARRAY", types[type], field)
                else
                        row(name, "FIELD", types[type], field)
        }
}

function row(name, kind, type, field) {
        printf "%s(%s, \"%s\", %s)\n", kind, name, type, field
        n_fields[name]++
        field_of[name, n_fields[name]] = field
        kind_of[name, n_fields[name]] = kind
        type_of[name, n_fields[name]] = type
}

function inner(name, type, field,    i) {
        for (i = 1; i <= n_fields[type]; i++)
                row(name, kind_of[type, i], type_of[type, i], field "." field_of[type, i])
}

END {
        while ((begin = index(text, "/*")) > 0)
                text = substr(text, 1, begin - 1) substr(text, begin + index(substr(text, begin), "*/") + 1)
        for (w = 1; w <= n_wanted; w++) {
                begin = index(text, "\nstruct " wanted[w] " {\n")
                if (!begin) {
                        print "#error no struct " wanted[w]
                        continue
                }
                body = substr(text, begin + length("\nstruct " wanted[w] " {"))
                body = substr(body, 1, index(body, "\n};") - 1)
                n = split(body, all, ";")
                for (i = 1; i <= n; i++)
                        declaration(wanted[w], all[i])
        }
}

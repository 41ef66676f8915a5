/* SPDX-License-Identifier: MIT */
/*
 * What a request on the control socket asks for: the table of commands, parsing, who may what.  Process:
 * azpard.
 *
 * What a client may do is decided by SO_PEERCRED, which the kernel fills in at
 * connect(): the socket's mode says who may look, the user id who may change.
 *
 * When adding a command, also add it to azpar-protocol(7).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/log.h"
#include "common/base/version.h"
#include "daemon/control_inside.h"
#include "daemon/refill.h"

#define CHECKPOINT_S 600   /* how long a client waits for a checkpoint */
#define IMPORT_S     86400 /* ... and for an import: files of many gigabytes may come */

struct request {
        const struct control_command *command;
        bool has_count;
        unsigned count;
};

/* A command gives 0 with or without an answer of its own, CONTROL_E_LATER, or a negative errno with a text.
 */
struct control_command {
        const char *name;
        bool changes; /* only for root and azpard's own user */
        bool counts;  /* takes "count" */
        bool takes_fd;
        int (*run)(struct control_client *c, const struct request *r, cJSON **ret_answer, struct error *e);
        /* of one that answers later: is it done?  Returns as run(). */
        int (*poll)(struct control_client *c, cJSON **ret_answer, struct error *e);
        uint64_t patience_s;
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

/* --- answers --- */

/* {"ok":true}, or NULL when there is no memory. */
static cJSON *answer_ok(void) {
        cJSON *answer = cJSON_CreateObject();

        if (answer && !cJSON_AddTrueToObject(answer, "ok")) {
                cJSON_Delete(answer);
                return NULL;
        }
        return answer;
}

cJSON *control_refusal(int negative_errno, const char *text) {
        cleanup_(cJSON_Deletep) cJSON *answer = cJSON_CreateObject();
        const char *code = strerrorname_np(-negative_errno);

        if (!answer || !cJSON_AddFalseToObject(answer, "ok") ||
            !cJSON_AddStringToObject(answer, "error", text) ||
            !cJSON_AddStringToObject(answer, "code", code ? code : "EINVAL"))
                return NULL;
        return TAKE_PTR(answer);
}

/* --- commands --- */

static int run_status(struct control_client *c, const struct request *r, cJSON **ret_answer,
                      struct error *e) {
        (void) r;
        *ret_answer = c->control->ops->status(c->control->userdata);
        return *ret_answer ? 0 : error_set(e, -ENOMEM, "out of memory");
}

static int run_version(struct control_client *c, const struct request *r, cJSON **ret_answer,
                       struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = answer_ok();

        (void) c;
        (void) r;
        if (!answer || !cJSON_AddNumberToObject(answer, "protocol", CONTROL_PROTOCOL) ||
            !cJSON_AddStringToObject(answer, "version", AZPAR_VERSION))
                return error_set(e, -ENOMEM, "out of memory");
        *ret_answer = TAKE_PTR(answer);
        return 0;
}

static int run_workers(struct control_client *c, const struct request *r, cJSON **ret_answer,
                       struct error *e) {
        (void) ret_answer;
        if (!r->has_count)
                return error_set(e, -EINVAL, "command 'workers' needs \"count\"");
        return c->control->ops->set_workers(c->control->userdata, r->count, e);
}

static int run_pause(struct control_client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        (void) r;
        (void) ret_answer;
        return c->control->ops->set_paused(c->control->userdata, true, e);
}

static int run_resume(struct control_client *c, const struct request *r, cJSON **ret_answer,
                      struct error *e) {
        (void) r;
        (void) ret_answer;
        return c->control->ops->set_paused(c->control->userdata, false, e);
}

static int run_stop(struct control_client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        int s = c->control->ops->stop(c->control->userdata, e);

        (void) r;
        (void) ret_answer;
        c->stops = s == 0;
        return s;
}

/* 0 with an answer, CONTROL_E_LATER while it is being written, or a negative errno with a text. */
static int poll_checkpoint(struct control_client *c, cJSON **ret_answer, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        uint64_t step = 0;
        int r = c->control->ops->checkpoint_done(c->control->userdata, c->ticket, &step);

        if (r == 0)
                return CONTROL_E_LATER;
        if (r < 0)
                return error_errno(e, r, "the checkpoint was not written");
        answer = answer_ok();
        if (!answer || !cJSON_AddNumberToObject(answer, "step", (double) step))
                return error_set(e, -ENOMEM, "out of memory");
        *ret_answer = TAKE_PTR(answer);
        return 0;
}

static int run_checkpoint(struct control_client *c, const struct request *r, cJSON **ret_answer,
                          struct error *e) {
        int s = c->control->ops->checkpoint(c->control->userdata, &c->ticket, e);

        (void) r;
        return s < 0 ? s : poll_checkpoint(c, ret_answer, e);
}

/* As poll_checkpoint(). */
static int poll_import(struct control_client *c, cJSON **ret_answer, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        struct refill_import done = { 0 };
        int r = c->control->ops->import_done(c->control->userdata, c->ticket, &done, e);

        if (r <= 0)
                return r < 0 ? r : CONTROL_E_LATER;
        answer = answer_ok();
        if (!answer || !cJSON_AddNumberToObject(answer, "samples", (double) done.samples) ||
            !cJSON_AddNumberToObject(answer, "duplicates", (double) done.duplicates) ||
            !cJSON_AddNumberToObject(answer, "rounded", (double) done.rounded))
                return error_set(e, -ENOMEM, "out of memory");
        *ret_answer = TAKE_PTR(answer);
        return 0;
}

static int run_import(struct control_client *c, const struct request *r, cJSON **ret_answer,
                      struct error *e) {
        int s;

        (void) r;
        if (c->passed_fd < 0)
                return error_set(e, -EINVAL, "command 'import' needs the file's descriptor with it");
        s = c->control->ops->import(c->control->userdata, TAKE_FD(c->passed_fd), &c->ticket, e);
        return s < 0 ? s : poll_import(c, ret_answer, e);
}

/* clang-format off */
static const struct control_command commands[] = {
        /* name, changes, counts, takes_fd, run, poll, patience_s */
        { "status",     false, false, false, run_status,     NULL,            0            },
        { "version",    false, false, false, run_version,    NULL,            0            },
        { "workers",    true,  true,  false, run_workers,    NULL,            0            },
        { "pause",      true,  false, false, run_pause,      NULL,            0            },
        { "resume",     true,  false, false, run_resume,     NULL,            0            },
        { "checkpoint", true,  false, false, run_checkpoint, poll_checkpoint, CHECKPOINT_S },
        { "import",     true,  false, true,  run_import,     poll_import,     IMPORT_S     },
        { "stop",       true,  false, false, run_stop,       NULL,            0            },
};
/* clang-format on */

/* --- requests --- */

/* @text as it can stand in a message: at most 40 bytes, printable ASCII. */
static const char *printable(char ret[static 44], const char *text) {
        size_t n = 0;

        for (; text[n] && n < 40; n++)
                ret[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
        (void) snprintf(ret + n, 4, "%s", text[n] ? "..." : "");
        return ret;
}

static int parse_command(const cJSON *item, struct request *ret, struct error *e) {
        char shown[44];

        if (ret->command)
                return error_set(e, -EINVAL, "key 'command' stands twice in the request");
        if (!cJSON_IsString(item))
                return error_set(e, -EINVAL, "key 'command' must be a string");
        for (size_t i = 0; i < N_ELEMENTS(commands); i++)
                if (strcmp(commands[i].name, item->valuestring) == 0)
                        ret->command = &commands[i];
        return ret->command
                       ? 0
                       : error_set(e, -EINVAL, "unknown command '%s'", printable(shown, item->valuestring));
}

static int parse_count(const cJSON *item, struct request *ret, struct error *e) {
        double count = item->valuedouble;

        if (ret->has_count)
                return error_set(e, -EINVAL, "key 'count' stands twice in the request");
        if (!cJSON_IsNumber(item) || !(count >= 0 && count <= INT32_MAX) ||
            count != (double) (unsigned) count)
                return error_set(e, -EINVAL, "key 'count' must be a whole number from 0 on");
        ret->has_count = true;
        ret->count = (unsigned) count;
        return 0;
}

/* @line: the request without its newline, @n bytes and a NUL. */
static int parse_request(const char *line, size_t n, struct request *ret, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *root = NULL;
        const cJSON *item;
        char shown[44];
        int r;

        if (memchr(line, 0, n))
                return error_set(e, -EINVAL, "the request holds a NUL byte");
        /* cJSON would take "stop\u0000x" for "stop"; a backslash in front makes it no more of a command */
        if (strstr(line, "\\u0000"))
                return error_set(e, -EINVAL, "the request holds \\u0000");
        root = cJSON_ParseWithOpts(line, NULL, true);
        if (!cJSON_IsObject(root))
                return error_set(e, -EINVAL, "the request is not a JSON object");
        cJSON_ArrayForEach(item, root) {
                if (strcmp(item->string, "command") == 0)
                        r = parse_command(item, ret, e);
                else if (strcmp(item->string, "count") == 0)
                        r = parse_count(item, ret, e);
                else
                        r = error_set(e, -EINVAL, "unknown key '%s' in the request",
                                      printable(shown, item->string));
                if (r < 0)
                        return r;
        }
        if (!ret->command)
                return error_set(e, -EINVAL, "the request lacks the key 'command'");
        if (ret->has_count && !ret->command->counts)
                return error_set(e, -EINVAL, "command '%s' takes no 'count'", ret->command->name);
        return 0;
}

static int run_request(struct control_client *c, const struct request *r, cJSON **ret_answer,
                       struct error *e) {
        if (!r->command->changes)
                return r->command->run(c, r, ret_answer, e);
        if (c->peer.uid != 0 && c->peer.uid != geteuid())
                return error_set(e, -EPERM,
                                 "'%s' is for root and user id %u; you are user id %u, which may only look",
                                 r->command->name, (unsigned) geteuid(), (unsigned) c->peer.uid);
        /* an import asks for every file of thousands */
        log_line(r->command->takes_fd ? LOG_LEVEL_DEBUG : LOG_LEVEL_NOTICE,
                 "'%s' asked for by user id %u, pid %d", r->command->name, (unsigned) c->peer.uid,
                 (int) c->peer.pid);
        return r->command->run(c, r, ret_answer, e);
}

/* @r as the command gave it. Return: 0 with an answer in @answer, NULL being no memory; CONTROL_E_LATER. */
static int finish(int r, const struct error *e, cJSON **answer) {
        if (r == CONTROL_E_LATER)
                return r;
        if (r < 0)
                *answer = control_refusal(r, e->text);
        else if (!*answer)
                *answer = answer_ok();
        return 0;
}

int control_request(struct control_client *c, const char *line, size_t n, cJSON **ret_answer) {
        struct request request = { .command = NULL };
        struct error e = ERROR_INIT;
        int r;

        *ret_answer = NULL;
        r = parse_request(line, n, &request, &e);
        if (r == 0 && c->passed_fd >= 0 && !request.command->takes_fd)
                r = error_set(&e, -EINVAL, "command '%s' takes no file descriptor", request.command->name);
        if (r == 0)
                r = run_request(c, &request, ret_answer, &e);
        c->waits = r == CONTROL_E_LATER ? request.command : NULL;
        return finish(r, &e, ret_answer);
}

int control_request_poll(struct control_client *c, cJSON **ret_answer) {
        struct error e = ERROR_INIT;
        int r;

        *ret_answer = NULL;
        r = c->waits->poll(c, ret_answer, &e);
        if (r != CONTROL_E_LATER)
                c->waits = NULL;
        return finish(r, &e, ret_answer);
}

cJSON *control_request_late(struct control_client *c) {
        char text[128];

        (void) snprintf(text, sizeof(text), "'%s' was not done within %ju s", c->waits->name,
                        (uintmax_t) c->waits->patience_s);
        c->waits = NULL;
        return control_refusal(-ETIMEDOUT, text);
}

uint64_t control_patience_us(const struct control_command *command) {
        return command->patience_s * 1000000;
}

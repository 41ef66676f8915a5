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
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "daemon/control_inside.h"
#include "daemon/refill.h"

#define CHECKPOINT_S 600   /* how long a client waits for a checkpoint */
#define IMPORT_S     86400 /* ... and for an import: files of many gigabytes may come */

#define PRINTABLE_MAX 40 /* of foreign text in a message */

struct request {
        const struct control_command *command;
        bool has_protocol, has_id; /* found so far */
        bool has_count;
        unsigned count;
};

/* A command gives 0 with or without an answer of its own, CONTROL_E_LATER, or a negative errno with a text.
 */
struct control_command {
        const char *name;
        enum {
                CHANGES = 1, /* only for root and azpard's own user */
                COUNTS = 2,  /* takes "count" */
                FILES = 4,   /* takes a descriptor */
        } flags;
        int (*run)(struct control_client *c, const struct request *r, cJSON **ret_answer, struct error *e);
        /* of one that answers later: is it done?  Returns as run(). */
        int (*poll)(struct control_client *c, cJSON **ret_answer, struct error *e);
        uint64_t patience_s;
        const char *text; /* for "help" */
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

/* --- answers --- */

/* {"ok":true}, or NULL when there is no memory. */
static cJSON *answer_ok(void) {
        cleanup_(cJSON_Deletep) cJSON *answer = cJSON_CreateObject();

        return answer && cJSON_AddTrueToObject(answer, "ok") ? TAKE_PTR(answer) : NULL;
}

/* {"ok":true,"protocol":1} */
static cJSON *answer_protocol(void) {
        cleanup_(cJSON_Deletep) cJSON *answer = answer_ok();

        return answer && cJSON_AddNumberToObject(answer, "protocol", CONTROL_PROTOCOL) ? TAKE_PTR(answer)
                                                                                       : NULL;
}

/* Return: whether there was memory for it. */
static bool add_id(cJSON *answer, const struct control_id *id) {
        switch (id->kind) {
        case CONTROL_ID_NUMBER:
                return cJSON_AddNumberToObject(answer, "id", id->number);
        case CONTROL_ID_TEXT:
                return cJSON_AddStringToObject(answer, "id", id->text);
        case CONTROL_ID_NONE:
                break;
        }
        return true;
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
        cleanup_(cJSON_Deletep) cJSON *answer = answer_protocol();

        (void) c;
        (void) r;
        if (!answer || !cJSON_AddStringToObject(answer, "version", AZPAR_VERSION))
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

static int run_reload(struct control_client *c, const struct request *r, cJSON **ret_answer,
                      struct error *e) {
        (void) r;
        return c->control->ops->reload(c->control->userdata, ret_answer, e);
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

static int run_help(struct control_client *c, const struct request *r, cJSON **ret_answer, struct error *e);

/* clang-format off */
static const struct control_command commands[] = {
        /* name, flags, run, poll, patience_s, text */
        { "status",     0,                run_status,     NULL,            0,
          "what azpard, its trainer and its workers do" },
        { "version",    0,                run_version,    NULL,            0,
          "azpard's version, and the protocol's" },
        { "help",       0,                run_help,       NULL,            0,
          "the commands, and the limits of the socket" },
        { "workers",    CHANGES | COUNTS, run_workers,    NULL,            0,
          "run \"count\" workers" },
        { "pause",      CHANGES,          run_pause,      NULL,            0,
          "let workers and trainer stand still" },
        { "resume",     CHANGES,          run_resume,     NULL,            0,
          "let them go on, those that were parked as well" },
        { "checkpoint", CHANGES,          run_checkpoint, poll_checkpoint, CHECKPOINT_S,
          "write a checkpoint; answered when it is written" },
        { "import",     CHANGES | FILES,  run_import,     poll_import,     IMPORT_S,
          "take in the batch file whose descriptor comes along; answered when its samples are durable" },
        { "reload",     CHANGES,          run_reload,     NULL,            0,
          "read the configuration again and take up what can change while running" },
        { "stop",       CHANGES,          run_stop,       NULL,            0,
          "stop azpard; the connection ends when it is gone" },
};

static const struct {
        const char *name;
        unsigned value;
} limits[] = {
        { "clients",       CONTROL_MAX_CLIENTS          },
        { "backlog",       CONTROL_BACKLOG              },
        { "request_bytes", CONTROL_REQUEST_MAX          },
        { "answer_bytes",  CONTROL_OUTPUT_MAX           },
        { "id_bytes",      CONTROL_ID_MAX               },
        { "idle_s",        CONTROL_IDLE_US / 1000000    },
        { "checkpoint_s",  CHECKPOINT_S                 },
        { "import_s",      IMPORT_S                     },
        { "share_percent", 100 / CONTROL_SHARE          },
        { "burst_ms",      CONTROL_BURST_NS / NS_PER_MS },
        { "rest_ms",       CONTROL_REST_NS / NS_PER_MS  },
};
/* clang-format on */

/* Appended to @list. Return: whether there was memory for it. */
static bool add_command(cJSON *list, const struct control_command *command, bool allowed) {
        cJSON *item = cJSON_CreateObject(), *keys;

        if (!item || !cJSON_AddItemToArray(list, item)) {
                cJSON_Delete(item);
                return false;
        }
        if (!cJSON_AddStringToObject(item, "command", command->name) ||
            !cJSON_AddStringToObject(item, "text", command->text) ||
            !cJSON_AddBoolToObject(item, "changes", command->flags & CHANGES) ||
            !cJSON_AddBoolToObject(item, "allowed", allowed) ||
            !cJSON_AddBoolToObject(item, "descriptor", command->flags & FILES))
                return false;
        keys = cJSON_AddArrayToObject(item, "keys");
        return keys &&
               (!(command->flags & COUNTS) || cJSON_AddItemToArray(keys, cJSON_CreateString("count")));
}

static int run_help(struct control_client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = answer_protocol();
        cJSON *list = answer ? cJSON_AddArrayToObject(answer, "commands") : NULL;
        cJSON *numbers = list ? cJSON_AddObjectToObject(answer, "limits") : NULL;
        bool ok = numbers;

        (void) r;
        for (size_t i = 0; ok && i < N_ELEMENTS(commands); i++)
                ok = add_command(list, &commands[i], !(commands[i].flags & CHANGES) || c->trusted);
        for (size_t i = 0; ok && i < N_ELEMENTS(limits); i++)
                ok = cJSON_AddNumberToObject(numbers, limits[i].name, limits[i].value);
        if (!ok)
                return error_set(e, -ENOMEM, "out of memory");
        *ret_answer = TAKE_PTR(answer);
        return 0;
}

/* --- requests --- */

/* @text as it can stand in a message: at most PRINTABLE_MAX bytes, printable ASCII. */
static const char *printable(char ret[static PRINTABLE_MAX + 4], const char *text) {
        size_t n = 0;

        for (; text[n] && n < PRINTABLE_MAX; n++)
                ret[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
        (void) snprintf(ret + n, 4, "%s", text[n] ? "..." : "");
        return ret;
}

static bool is_printable(const char *text) {
        for (; *text; text++)
                if (*text < ' ' || *text > '~')
                        return false;
        return true;
}

/* A whole number from @min to @max? */
static bool is_whole(const cJSON *item, double min, double max) {
        return cJSON_IsNumber(item) && item->valuedouble >= min && item->valuedouble <= max &&
               item->valuedouble == floor(item->valuedouble);
}

static int parse_protocol(const cJSON *item, struct request *ret, struct error *e) {
        if (ret->has_protocol)
                return error_set(e, -EINVAL, "key 'protocol' stands twice in the request");
        if (!is_whole(item, 1, INT32_MAX))
                return error_set(e, -EINVAL, "key 'protocol' must be a whole number from 1 on");
        if (item->valuedouble > CONTROL_PROTOCOL)
                return error_set(e, -EPROTONOSUPPORT, "protocol %u is not known here; this azpard speaks %u",
                                 (unsigned) item->valuedouble, CONTROL_PROTOCOL);
        ret->has_protocol = true;
        return 0;
}

static int parse_id(const cJSON *item, struct request *ret, struct control_id *id, struct error *e) {
        size_t n;

        if (ret->has_id)
                return error_set(e, -EINVAL, "key 'id' stands twice in the request");
        if (is_whole(item, 0, CONTROL_ID_NUMBER_MAX)) {
                id->kind = CONTROL_ID_NUMBER;
                id->number = item->valuedouble;
        } else {
                n = cJSON_IsString(item) ? strlen(item->valuestring) : 0;
                if (n == 0 || n > CONTROL_ID_MAX || !is_printable(item->valuestring))
                        return error_set(
                                e, -EINVAL,
                                "key 'id' must be a whole number from 0 to %.0f or a text of 1 to %u "
                                "printable ASCII characters",
                                CONTROL_ID_NUMBER_MAX, CONTROL_ID_MAX);
                id->kind = CONTROL_ID_TEXT;
                memcpy(id->text, item->valuestring, n + 1);
        }
        ret->has_id = true;
        return 0;
}

static int parse_command(const cJSON *item, struct request *ret, struct error *e) {
        char shown[PRINTABLE_MAX + 4];

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
        if (ret->has_count)
                return error_set(e, -EINVAL, "key 'count' stands twice in the request");
        if (!is_whole(item, 0, INT32_MAX))
                return error_set(e, -EINVAL, "key 'count' must be a whole number from 0 on");
        ret->has_count = true;
        ret->count = (unsigned) item->valuedouble;
        return 0;
}

/* First what holds for whatever else the request says: a refusal, too, carries the id. */
static int parse_frame(const cJSON *root, struct request *ret, struct control_id *id, struct error *e) {
        const cJSON *item;
        int r = 0;

        cJSON_ArrayForEach(item, root) if (r == 0 && strcmp(item->string, "id") == 0) r =
                parse_id(item, ret, id, e);
        cJSON_ArrayForEach(item, root) if (r == 0 && strcmp(item->string, "protocol") == 0) r =
                parse_protocol(item, ret, e);
        return r;
}

static int parse_key(const cJSON *item, struct request *ret, struct error *e) {
        char shown[PRINTABLE_MAX + 4];

        if (strcmp(item->string, "id") == 0 || strcmp(item->string, "protocol") == 0)
                return 0;
        if (strcmp(item->string, "command") == 0)
                return parse_command(item, ret, e);
        if (strcmp(item->string, "count") == 0)
                return parse_count(item, ret, e);
        return error_set(e, -EINVAL, "unknown key '%s' in the request", printable(shown, item->string));
}

/* @line: the request without its newline, @n bytes and a NUL. */
static int parse_request(const char *line, size_t n, struct request *ret, struct control_id *id,
                         struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *root = NULL;
        const cJSON *item;
        int r;

        if (memchr(line, 0, n))
                return error_set(e, -EINVAL, "the request holds a NUL byte");
        /* cJSON would take "stop\u0000x" for "stop"; a backslash in front makes it no more of a command */
        if (strstr(line, "\\u0000"))
                return error_set(e, -EINVAL, "the request holds \\u0000");
        root = cJSON_ParseWithOpts(line, NULL, true);
        if (!cJSON_IsObject(root))
                return error_set(e, -EINVAL, "the request is not a JSON object");
        r = parse_frame(root, ret, id, e);
        cJSON_ArrayForEach(item, root) if (r == 0) r = parse_key(item, ret, e);
        if (r < 0)
                return r;
        if (!ret->command)
                return error_set(e, -EINVAL, "the request lacks the key 'command'");
        if (ret->has_count && !(ret->command->flags & COUNTS))
                return error_set(e, -EINVAL, "command '%s' takes no 'count'", ret->command->name);
        return 0;
}

static int run_request(struct control_client *c, const struct request *r, cJSON **ret_answer,
                       struct error *e) {
        if (!(r->command->flags & CHANGES))
                return r->command->run(c, r, ret_answer, e);
        if (!c->trusted)
                return error_set(e, -EPERM,
                                 "'%s' is for root and user id %u; you are user id %u, which may only look",
                                 r->command->name, (unsigned) geteuid(), (unsigned) c->peer.uid);
        /* an import asks for every file of thousands */
        if (!(r->command->flags & FILES))
                log_event(LOG_EVENT_COMMAND,
                          LOG_FIELDS(LOG_TEXT(COMMAND, r->command->name), LOG_NUMBER(CLIENT_UID, c->peer.uid),
                                     LOG_NUMBER(CLIENT_PID, c->peer.pid)),
                          "'%s' asked for by user id %u, pid %d", r->command->name, (unsigned) c->peer.uid,
                          (int) c->peer.pid);
        return r->command->run(c, r, ret_answer, e);
}

/* @r as the command gave it. Return: 0 with an answer in @answer, NULL being no memory; CONTROL_E_LATER. */
static int finish(const struct control_client *c, int r, const struct error *e, cJSON **answer) {
        if (r == CONTROL_E_LATER)
                return r;
        if (r < 0)
                *answer = control_refusal(r, e->text);
        else if (!*answer)
                *answer = answer_ok();
        if (*answer && !add_id(*answer, &c->id)) {
                cJSON_Delete(*answer);
                *answer = NULL;
        }
        return 0;
}

int control_request(struct control_client *c, const char *line, size_t n, cJSON **ret_answer) {
        struct request request = { .command = NULL };
        struct error e = ERROR_INIT;
        int r;

        *ret_answer = NULL;
        c->id.kind = CONTROL_ID_NONE;
        r = parse_request(line, n, &request, &c->id, &e);
        if (r == 0 && c->passed_fd >= 0 && !(request.command->flags & FILES))
                r = error_set(&e, -EINVAL, "command '%s' takes no file descriptor", request.command->name);
        if (r == 0)
                r = run_request(c, &request, ret_answer, &e);
        c->waits = r == CONTROL_E_LATER ? request.command : NULL;
        return finish(c, r, &e, ret_answer);
}

int control_request_poll(struct control_client *c, cJSON **ret_answer) {
        struct error e = ERROR_INIT;
        int r;

        *ret_answer = NULL;
        r = c->waits->poll(c, ret_answer, &e);
        if (r != CONTROL_E_LATER)
                c->waits = NULL;
        return finish(c, r, &e, ret_answer);
}

static cJSON *give_up(struct control_client *c, int negative_errno, const struct error *e) {
        cJSON *answer = NULL;

        if (!c->waits) /* the id is one of an answer that has left */
                c->id.kind = CONTROL_ID_NONE;
        c->waits = NULL;
        return finish(c, negative_errno, e, &answer) == 0 ? answer : NULL;
}

cJSON *control_request_late(struct control_client *c) {
        struct error e = ERROR_INIT;
        int r = error_set(&e, -ETIMEDOUT, "'%s' was not done within %ju s", c->waits->name,
                          (uintmax_t) c->waits->patience_s);

        return give_up(c, r, &e);
}

cJSON *control_request_displaced(struct control_client *c) {
        struct error e = ERROR_INIT;
        int r = error_set(&e, -EBUSY, "displaced: all %u places are taken, and you were idle for longest",
                          CONTROL_MAX_CLIENTS);

        return give_up(c, r, &e);
}

uint64_t control_patience_us(const struct control_command *command) {
        return command->patience_s * 1000000;
}

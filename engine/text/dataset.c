/* dataset: the pass that checks and indexes a file, and reading its rows by number. */
#include "engine/text/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "engine/text/dataset_pass.h"
#include "engine/text/jsonl.h"
#include "engine/text/rows.h"

/* 20 bytes: files have up to LIMIT_ROWS rows. */
struct row_entry {
    int64_t offset;
    uint32_t bytes;
    int32_t tokens;
    int32_t trained;
} __attribute__((packed, aligned(4)));

struct dataset {
    int fd;
    char *path;
    struct dataset_options options;
    struct row_encoder encoder;
    enum row_kind kind;
    struct row_entry *rows; /* [n] */
    size_t n, cap;
    char *line; /* [line_cap]: the row being read */
    size_t line_cap;
};

static int32_t count_trained(const struct ids *labels) {
    int32_t n = 0;
    for (size_t i = 1; i < labels->len; i++)
        n += labels->data[i] != LABEL_IGNORE;
    return n;
}

static void truncate_row(const struct dataset_options *o, struct ids *ids, struct ids *labels) {
    if (ids->len > (size_t)o->max_seq_len)
        ids->len = labels->len = (size_t)o->max_seq_len;
}

static void add_row(struct dataset *ds, struct row_entry entry) {
    if (ds->n == ds->cap) {
        ds->cap = ds->cap == 0 ? 1024 : ds->cap + ds->cap / 4;
        ds->rows = xreallocarray(ds->rows, ds->cap, sizeof *ds->rows);
    }
    ds->rows[ds->n++] = entry;
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* Everything the pass over one file needs. */
struct scan {
    struct dataset *ds;
    int64_t stride, seen; /* every stride-th row is encoded; rows so far */
    struct dataset_pass pass;
    struct ids ids, labels;
};

static enum err check_kind(struct scan *s, const json_t *row, const struct jsonl_line *line,
                           struct err_msg *em) {
    struct dataset *ds = s->ds;
    enum row_kind kind = ROW_NONE;
    enum err e = row_kind_of(row, &kind, em);
    if (e != ERR_OK)
        return e;
    if (ds->kind == ROW_NONE) {
        ds->kind = kind;
        s->pass.first_kind_line = line->number;
    }
    if (kind != ds->kind)
        return err_set(em, ERR_INPUT,
                       "this row is of kind %s, but line %" PRId64
                       " is of kind %s; a file has rows of one kind",
                       row_kind_name(kind), s->pass.first_kind_line, row_kind_name(ds->kind));
    const char *unused = row_unused_key(row, kind);
    if (unused != NULL)
        dataset_pass_unused_key(&s->pass, unused, line->number);
    return ERR_OK;
}

/* Counts, cuts, drops and indexes an encoded row. */
static enum err take_row(struct scan *s, const struct jsonl_line *line, struct err_msg *em) {
    struct dataset *ds = s->ds;
    struct dataset_report *r = s->pass.report;
    const struct dataset_options *o = &ds->options;
    size_t tokens = s->ids.len;
    bool is_long = tokens > (size_t)o->max_seq_len;
    if (tokens > LIMIT_ROW_TOKENS)
        return err_set(em, ERR_INPUT, "the row has %zu tokens; at most %d are accepted", tokens,
                       LIMIT_ROW_TOKENS);
    if (is_long && o->long_examples == LONG_FAIL)
        return err_set(em, ERR_INPUT,
                       "the row has %zu tokens and max_seq_len is %d (long_examples is `fail`)",
                       tokens, o->max_seq_len);
    dataset_pass_row(&s->pass, line, (int32_t)tokens);
    if (is_long && o->long_examples == LONG_DROP) {
        r->dropped++;
        return ERR_OK;
    }
    truncate_row(o, &s->ids, &s->labels);
    int32_t trained = count_trained(&s->labels);
    if (trained == 0 && !o->every_row) {
        r->untrained++;
        return ERR_OK;
    }
    r->truncated += is_long;
    r->tokens += (int64_t)s->ids.len;
    r->token_pairs += 0.5 * (double)s->ids.len * ((double)s->ids.len + 1);
    r->trained_tokens += trained;
    add_row(ds, (struct row_entry){.offset = line->offset,
                                   .bytes = (uint32_t)line->len,
                                   .tokens = (int32_t)s->ids.len,
                                   .trained = trained});
    return ERR_OK;
}

static void scan_line(struct scan *s, const struct jsonl_line *line) {
    struct err_msg em = ERR_MSG_INIT;
    struct line_fault fault;
    json_t *row = jsonl_parse(line, &fault);
    if (row == NULL) {
        dataset_pass_bad(&s->pass, line->number, fault.offset, fault.reason);
        return;
    }
    enum err e = check_kind(s, row, line, &em);
    bool encode = s->seen++ % s->stride == 0 || s->ds->kind == ROW_TOKENS;
    if (e == ERR_OK && encode)
        e = row_encode(&s->ds->encoder, row, s->ds->kind, &s->ids, &s->labels, &em);
    if (e == ERR_OK && encode)
        e = take_row(s, line, &em);
    if (e == ERR_OK && !encode) {
        e = row_check(&s->ds->encoder, row, s->ds->kind, &em);
        if (e == ERR_OK)
            dataset_pass_row(&s->pass, line, -1);
    }
    if (e != ERR_OK)
        dataset_pass_bad(&s->pass, line->number, line->offset, em.text);
    json_decref(row);
}

static enum err scan_lines(struct scan *s, struct jsonl *reader, struct err_msg *em) {
    struct dataset_report *r = s->pass.report;
    struct jsonl_line line;
    bool more = true;
    for (;;) {
        enum err e = jsonl_next(reader, &line, &more, em);
        if (e != ERR_OK || !more)
            return e;
        if (++r->lines > LIMIT_ROWS)
            return err_set(em, ERR_LIMIT, "%s has more than %d lines; split it", s->ds->path,
                           LIMIT_ROWS);
        if (jsonl_blank(&line))
            r->blank_lines++;
        else
            scan_line(s, &line);
    }
}

static enum err scan_file(struct dataset *ds, struct dataset_report *r, struct err_msg *em) {
    struct scan s = {.ds = ds, .stride = 1};
    int64_t most = ds->options.sample_bytes, bytes = file_size(ds->path);
    if (most > 0 && bytes > most)
        s.stride = (bytes + most - 1) / most;
    struct sha256 hash;
    struct jsonl *reader = NULL;
    enum err e = jsonl_open(ds->path, &hash, &reader, em);
    if (e != ERR_OK)
        return e;
    sha256_init(&hash);
    dataset_pass_init(&s.pass, &ds->options, r);
    e = scan_lines(&s, reader, em);
    r->bytes = jsonl_bytes(reader);
    r->kind = ds->kind;
    sha256_hex(&hash, r->sha256);
    dataset_pass_end(&s.pass);
    dataset_pass_clear(&s.pass);
    jsonl_close(reader);
    ids_clear(&s.ids);
    ids_clear(&s.labels);
    return e;
}

/* The sentence for a file that was read but cannot be trained on. */
static enum err verdict(const struct dataset *ds, const struct dataset_report *r,
                        struct err_msg *em) {
    if (r->bad > 0) {
        const struct bad_line *first = &r->bad_lines[0];
        if (r->bad == 1)
            return err_set(em, ERR_INPUT, "%s: line %" PRId64 ", byte %" PRId64 ": %s", ds->path,
                           first->line, first->offset, first->reason);
        return err_set(em, ERR_INPUT,
                       "%s: %" PRId64 " bad lines; line %" PRId64 ", byte %" PRId64 ": %s",
                       ds->path, r->bad, first->line, first->offset, first->reason);
    }
    if (ds->options.every_row)
        return ERR_OK;
    if (r->rows == 0)
        return err_set(em, ERR_INPUT, "%s has no rows%s", ds->path,
                       r->bytes == 0 ? ": the file is empty" : "");
    if (ds->n == 0)
        return err_set(em, ERR_INPUT, "%s: none of its rows (%" PRId64 ") can be trained on: %s",
                       ds->path, r->rows, r->n_warnings > 0 ? r->warnings[0] : "");
    return ERR_OK;
}

enum err dataset_open(const char *path, const struct dataset_options *options, struct dataset **out,
                      struct dataset_report *report, struct err_msg *em) {
    struct dataset_report own = {0}, *r = report != NULL ? report : &own;
    *r = (struct dataset_report){0};
    struct dataset *ds = xcalloc(1, sizeof *ds);
    *ds = (struct dataset){.fd = -1, .path = xstrdup(path), .options = *options};
    enum err e = row_encoder_init(&ds->encoder, &ds->options, em);
    if (e == ERR_OK && options->max_seq_len < 1)
        e = err_set(em, ERR_INPUT, "max_seq_len is %d; it must be at least 1",
                    options->max_seq_len);
    if (e == ERR_OK)
        e = scan_file(ds, r, em);
    if (e == ERR_OK)
        e = verdict(ds, r, em);
    if (e == ERR_OK && (ds->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        e = err_set_errno(em, errno, "cannot open %s", path);
    if (e == ERR_OK)
        *out = ds;
    else
        dataset_close(ds);
    dataset_report_clear(&own);
    return e;
}

void dataset_close(struct dataset *ds) {
    if (ds == NULL)
        return;
    if (ds->fd >= 0)
        close(ds->fd);
    row_encoder_clear(&ds->encoder);
    free(ds->path);
    free(ds->rows);
    free(ds->line);
    free(ds);
}

/* ---- rows ------------------------------------------------------------------------------------ */

int64_t dataset_rows(const struct dataset *ds) {
    return (int64_t)ds->n;
}

int32_t dataset_row_tokens(const struct dataset *ds, int64_t row) {
    return ds->rows[row].tokens;
}

int32_t dataset_row_trained(const struct dataset *ds, int64_t row) {
    return ds->rows[row].trained;
}

static enum err read_line(struct dataset *ds, const struct row_entry *entry, struct err_msg *em) {
    size_t done = 0, bytes = entry->bytes;
    if (ds->line_cap < bytes + 1) {
        ds->line_cap = bytes + 1;
        ds->line = xreallocarray(ds->line, ds->line_cap, 1);
    }
    while (done < bytes) {
        ssize_t got = pread(ds->fd, ds->line + done, bytes - done, entry->offset + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set_errno(em, errno, "cannot read %s", ds->path);
        if (got == 0)
            return err_set(em, ERR_IO, "%s became shorter while it was in use", ds->path);
        done += (size_t)got;
    }
    ds->line[bytes] = '\0';
    return ERR_OK;
}

enum err dataset_read(struct dataset *ds, int64_t row, struct ids *ids, struct ids *labels,
                      struct err_msg *em) {
    const struct row_entry *entry = &ds->rows[row];
    struct line_fault fault;
    enum err e = read_line(ds, entry, em);
    if (e != ERR_OK)
        return e;
    struct jsonl_line line = {
        .data = ds->line, .len = entry->bytes, .number = 2, .offset = entry->offset};
    json_t *parsed = jsonl_parse(&line, &fault);
    if (parsed != NULL)
        e = row_encode(&ds->encoder, parsed, ds->kind, ids, labels, em);
    json_decref(parsed);
    if (e != ERR_OK)
        return e;
    truncate_row(&ds->options, ids, labels);
    if (parsed == NULL || ids->len != (size_t)entry->tokens)
        return err_set(em, ERR_IO, "%s changed while it was in use (byte %" PRId64 ")", ds->path,
                       entry->offset);
    return ERR_OK;
}

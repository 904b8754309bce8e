/* A fast program to compare with in bench/indexer.py. It makes the same checks and the same index, but only for the
   dialects that are measured there.

       indexer ARCHIVE INDEX

   Exits with 1 if the archive is damaged or has entries that the program does not support. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 512, WINDOW = 4 << 20, SKIP = 12 << 10 };

static uint8_t window[WINDOW];
static uint64_t window_start, window_stop, last_stop, width = WINDOW, size;
static int in;

static void refuse(const char *why, uint64_t at) {
    fprintf(stderr, "byte %llu: %s\n", (unsigned long long)at, why);
    exit(1);
}

/* Returns `length` bytes at `at`. After a large content that was skipped, it reads a small window, then larger ones. */
static const uint8_t *bytes(uint64_t at, uint64_t length) {
    if (at < window_start || at + length > window_stop) {
        width = at > last_stop + SKIP ? 2 * BLOCK : width * 8 < WINDOW ? width * 8 : WINDOW;
        uint64_t wanted = width;
        if (at + wanted > size) wanted = size - at;
        if (wanted < length || length > WINDOW) refuse("truncated", at);
        if (pread(in, window, wanted, (off_t)at) != (ssize_t)wanted) refuse("short read", at);
        window_start = at;
        window_stop = at + wanted;
    }
    last_stop = at + length;
    return window + (at - window_start);
}

/* Returns a number in octal digits, or -1 if there are other characters. */
static int64_t number(const uint8_t *field, int digits) {
    int64_t value = 0;
    for (int i = 0; i < digits; i++) {
        if ((field[i] & 0xF8) != 0x30) return -1;
        value = value << 3 | (field[i] & 7);
    }
    return value;
}

static int zeros(const uint8_t *from, uint64_t length) {
    return !length || (!from[0] && !memcmp(from, from + 1, length - 1));
}

static void check_sum(const uint8_t *header, uint64_t at) {
    uint32_t sum = 8 * ' ';
    for (int i = 0; i < BLOCK; i++) sum += header[i];
    for (int i = 148; i < 156; i++) sum -= header[i];
    if (number(header + 148, 6) != sum) refuse("checksum", at);
}

/* Checks records `<length> <key>=<value>\n`. Only times are supported. */
static void check_pax(const uint8_t *payload, int64_t length, uint64_t at) {
    for (int64_t done = 0; done < length;) {
        int64_t record = 0, i = done;
        while (i < length && payload[i] >= '0' && payload[i] <= '9') record = record * 10 + payload[i++] - '0';
        if (record < 9 || done + record > length || payload[done + record - 1] != '\n') refuse("record", at);
        if (memcmp(payload + i + 2, "time=", 5) || !memchr("mac", payload[i + 1], 3)) refuse("record", at);
        done += record;
    }
}

/* Returns the key in the name of an entry, or -1 if the name is not that of a datapoint. */
static int64_t key_of(const uint8_t *name) {
    uint64_t key = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9') return -1;
        key = key * 10 + name[i] - '0';
    }
    size_t length = strnlen((const char *)name + 21, 79);
    return name[20] == '.' && length && !memchr(name + 21, '/', length) ? (int64_t)key : -1;
}

int main(int argc, char **argv) {
    struct stat info;
    if (argc != 3 || (in = open(argv[1], O_RDONLY)) < 0 || fstat(in, &info)) refuse("open", 0);
    size = (uint64_t)info.st_size;
    size_t capacity = 1 << 20, count = 0;
    uint8_t *records = malloc(capacity * 16);
    int64_t expected = -1;
    uint64_t at = 0;
    for (;;) {
        uint64_t start = at;
        const uint8_t *header = bytes(at, BLOCK);
        if (!header[0] && zeros(header, BLOCK)) break;
        check_sum(header, at);
        if (header[156] == 'x') {
            int64_t length = number(header + 124, 11);
            if (length < 0 || length > BLOCK) refuse("PAX header", at);
            check_pax(bytes(at + BLOCK, BLOCK), length, at);
            at += 2 * BLOCK;
            header = bytes(at, BLOCK);
            check_sum(header, at);
        }
        if ((header[156] != '0' && header[156]) || (header[345] && !memcmp(header + 257, "ustar", 6))) refuse("kind", at);
        int64_t key = key_of(header), content = number(header + 124, 11);
        if (key < 0 || content < 0 || (expected >= 0 && key != expected)) refuse("name or size", at);
        expected = key + 1;
        if (count == capacity) records = realloc(records, (capacity *= 2) * 16);
        uint64_t blocks = (at - start) / BLOCK + 1;
        uint64_t position = __builtin_bswap64(start), rest = __builtin_bswap64(blocks << 48 | (uint64_t)content);
        memcpy(records + count * 16, &position, 8);
        memcpy(records + count++ * 16 + 8, &rest, 8);
        at += BLOCK + ((uint64_t)content + BLOCK - 1) / BLOCK * BLOCK;
        if (at > size) refuse("truncated", start);
    }
    if (size - at < 2 * BLOCK || size % BLOCK) refuse("end marker", at);
    for (uint64_t end = at; end < size; end += BLOCK)
        if (!zeros(bytes(end, BLOCK), BLOCK)) refuse("not zero after the end marker", end);
    FILE *out = fopen(argv[2], "wb");
    if (!count || !out || fwrite(records, 16, count, out) != count || fclose(out)) refuse("index", 0);
    return 0;
}

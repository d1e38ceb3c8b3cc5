/* Workload j, the driver: reads of a file of 64 MiB, in three states:
 *
 *   cached: every page is in memory;
 *   uncached: none is, and each block is read once, without reading ahead;
 *   direct: O_DIRECT, past the page cache.
 *
 * Each byte is checked. Where the file system cannot do a case, it is left out with the reason. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCKS 16384
#define WORDS (FILES_BLOCK / sizeof(uint64_t))

static uint64_t block_word(uint32_t block, uint32_t index)
{
    return (uint64_t)(block + 1) * 0x9e3779b97f4a7c15u + index;
}

int64_t files_next(struct files_run *run, uint32_t slot)
{
    if (run->next == run->count)
        return -1;
    run->slots[slot] = run->blocks[run->next++ % BLOCKS];
    return (int64_t)run->slots[slot] * FILES_BLOCK;
}

void *files_memory(struct files_run *run, uint32_t slot)
{
    return run->memory + (size_t)slot * FILES_BLOCK;
}

void files_done(struct files_run *run, uint32_t slot, int64_t result)
{
    const uint64_t *words = files_memory(run, slot);
    uint64_t wrong = 0;
    micro_check(result == FILES_BLOCK, run->impl, "size of a read");
    for (uint32_t i = 0; i < WORDS; i++)
        wrong |= words[i] ^ block_word(run->slots[slot], i);
    micro_check(wrong == 0, run->impl, "bytes of a read");
    memset(files_memory(run, slot), 0, sizeof(uint64_t)); /* old bytes pass for new ones no more */
    run->done++;
}

static void file_fail(const char *what, const char *path)
{
    fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

static int file_create(const char *folder, char *path, size_t size)
{
    uint64_t words[WORDS];
    snprintf(path, size, "%s/bench-micro-files-XXXXXX", folder);
    int file = mkstemp(path);
    if (file < 0)
        file_fail("cannot create", path);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        for (uint32_t i = 0; i < WORDS; i++)
            words[i] = block_word(block, i);
        if (write(file, words, sizeof(words)) != sizeof(words))
            file_fail("cannot write", path);
    }
    if (fsync(file) < 0)
        file_fail("cannot sync", path);
    return file;
}

static int file_is_cached(int file)
{
    char byte;
    struct iovec one = {&byte, 1};
    return preadv2(file, &one, 1, (off_t)(BLOCKS / 2) * FILES_BLOCK, RWF_NOWAIT) == 1;
}

static void file_cache(int file)
{
    unsigned char block[FILES_BLOCK];
    for (uint32_t i = 0; i < BLOCKS; i++)
        micro_check(pread(file, block, sizeof(block), (off_t)i * FILES_BLOCK) == sizeof(block),
                    "driver", "the file is as long as written");
}

static void run_case(const struct files_peer *peer, const char *name, int file, uint32_t count,
                     const uint32_t *blocks)
{
    struct files_run run = {.file = file, .impl = peer->impl, .blocks = blocks, .count = count};
    run.memory = micro_allocate((uint64_t)FILES_DEPTH * FILES_BLOCK);
    uint64_t cpu_ns = micro_cpu_ns();
    uint64_t begin_ns = micro_now_ns();
    int error = peer->run(&run);
    uint64_t time_ns = micro_now_ns() - begin_ns;
    cpu_ns = micro_cpu_ns() - cpu_ns;
    free(run.memory);
    if (error) {
        micro_skip(peer->impl, "not available on this system");
        return;
    }
    micro_check(run.done == count, peer->impl, "number of reads");
    micro_report("j", name, peer->impl, "reads/s", (double)count * 1e9 / (double)time_ns);
    micro_report("j", name, peer->impl, "CPU us/read", (double)cpu_ns / 1e3 / (double)count);
}

static void run_uncached(const struct files_peer *peer, int file, uint32_t count,
                         const uint32_t *blocks)
{
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    if (file_is_cached(file)) {
        micro_skip(peer->impl, "uncached: this file system keeps its pages");
        return;
    }
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
    run_case(peer, "uncached", file, count, blocks);
}

static void run_peer(const struct files_peer *peer, const struct micro_options *options,
                     const uint32_t *blocks)
{
    char path[1024];
    uint32_t count = options->quick ? BLOCKS / 4 : BLOCKS;
    int file = file_create(options->folder, path, sizeof(path));
    int direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    file_cache(file);
    run_case(peer, "cached", file, count * 8, blocks);
    run_uncached(peer, file, count, blocks);
    if (direct >= 0)
        run_case(peer, "direct", direct, count, blocks);
    else
        micro_skip(peer->impl, "direct: this file system has no O_DIRECT");
    if (direct >= 0)
        close(direct);
    close(file);
    unlink(path);
}

int main(int argc, char **argv)
{
    struct micro_options options;
    uint32_t *blocks = micro_allocate(BLOCKS * sizeof(*blocks));
    micro_begin(argc, argv, &options);
    micro_shuffled(blocks, BLOCKS);
    for (uint32_t i = 0; files_peers[i]; i++) {
        if (micro_wanted(&options, files_peers[i]->impl))
            run_peer(files_peers[i], &options, blocks);
    }
    free(blocks);
    return 0;
}

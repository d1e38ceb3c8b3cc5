/* Workload j: uv_fs_read, as libuv's documentation has it: requests in the user's memory, its pool
 * of four threads, callbacks on the loop. */
#include "files.h"

#include <uv.h>

static uv_loop_t loop;
static uv_fs_t requests[FILES_DEPTH];
static struct files_run *current;

static void slot_start(uint32_t slot);

static void slot_done(uv_fs_t *request)
{
    uint32_t slot = (uint32_t)(request - requests);
    int64_t result = (int64_t)request->result;
    uv_fs_req_cleanup(request);
    files_done(current, slot, result);
    slot_start(slot);
}

static void slot_start(uint32_t slot)
{
    int64_t offset = files_next(current, slot);
    uv_buf_t buffer = uv_buf_init(files_memory(current, slot), FILES_BLOCK);
    if (offset >= 0)
        micro_check(
            uv_fs_read(&loop, &requests[slot], current->file, &buffer, 1, offset, slot_done) == 0,
            "libuv", "a read starts");
}

static int loop_run(struct files_run *run)
{
    current = run;
    uv_loop_init(&loop);
    for (uint32_t slot = 0; slot < FILES_DEPTH; slot++)
        slot_start(slot);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return 0;
}

static const struct files_peer peer = {"libuv", loop_run};

const struct files_peer *const files_peers[] = {&peer, NULL};

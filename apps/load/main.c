/* iocp-load: puts load on a TCP server and measures it. This file starts it, shows how it goes, and
 * ends it. Everything else runs on the workers of the port. */
#include "load.h"
#include "options.h"
#include "summary.h"

#include <stdlib.h>

/* Until the load has ended; a request to end the program ends it early, a second one at once. */
static void main_wait(struct load *load, struct summary *summary)
{
    bool live = !load->options->server.quiet && system_terminal();
    bool stopped = false;
    uint64_t before = 0;

    while (atomic_load_explicit(&load->phase, memory_order_acquire) != LOAD_ENDED) {
        enum system_event event = system_wait(live);
        if (event == SYSTEM_STOP) {
            if (stopped) {
                _Exit(EXIT_FAILURE);
            }
            stopped = true;
            load_stop(load);
        }
        if (event == SYSTEM_TICK && live) {
            summary_take(summary);
            summary_print_progress(summary, before);
            before = summary_count(summary);
        }
    }
    if (live) {
        summary_clear_progress();
    }
}

int main(int argc, char **argv)
{
    struct load_options options;
    struct load load;
    struct summary summary;

    options_parse(&options, argc, argv);
    load_init(&load, &options);
    if (!summary_init(&summary, &load)) {
        start_fail(&options.server, "cannot start: %s", iocp_error_text(IOCP_ENOMEM));
    }
    load_start(&load);
    main_wait(&load, &summary);
    load_finish(&load);
    summary_take(&summary);
    if (!options.server.quiet) {
        summary_print(&summary);
    }
    summary_print_errors(&summary);
    bool failed = tally_errors(&summary.total) != 0;
    if (options.json != NULL && !summary_write_json(&summary, options.json)) {
        failed = true;
    }
    summary_free(&summary);
    load_free(&load);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

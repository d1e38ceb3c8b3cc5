/* Names and texts of the errors. Which of them a code of the system becomes is in os/. */
#include <iocp/error.h>

#define ERROR_NAME(name, value, text) [-(value)] = "IOCP_E" #name,
static const char *const error_names[] = {[0] = "IOCP_OK", IOCP_ERRORS(ERROR_NAME)};
#undef ERROR_NAME

#define ERROR_TEXT(name, value, text) [-(value)] = text,
static const char *const error_texts[] = {[0] = "success", IOCP_ERRORS(ERROR_TEXT)};
#undef ERROR_TEXT

#define ERROR_COUNT ((int64_t)(sizeof(error_names) / sizeof(error_names[0])))

/* The row of an error; -1 when it is none of ours. The values have no gap now, but they may get
 * one. */
static int64_t error_row(int64_t error)
{
    if (error >= 0)
        return 0;
    if (error <= -ERROR_COUNT || !error_names[-error])
        return -1;
    return -error;
}

const char *iocp_error_name(int64_t error)
{
    int64_t row = error_row(error);
    return row < 0 ? "IOCP_?" : error_names[row];
}

const char *iocp_error_text(int64_t error)
{
    int64_t row = error_row(error);
    return row < 0 ? "no error of iocp" : error_texts[row];
}

/* The text of addresses. What `parse` reads, `format` writes so that it is read as the same; what
 * the system may hand over (any bytes) has a text that is read as the same, or none.
 *
 * An input is one byte and a text, or one byte and the bytes of an address. */
#include "fuzz.h"

#include <iocp/address.h>
#include <iocp/error.h>

#include <string.h>

/* Writes an address into memory of exactly its size, and checks what `format` says of that. */
static void format_exactly(const struct iocp_address *address, const char *text, int length)
{
    char *exact = malloc((size_t)length + 1);
    FUZZ_CHECK(exact);
    FUZZ_CHECK(iocp_address_format(address, exact, (size_t)length + 1) == length);
    FUZZ_CHECK(strcmp(exact, text) == 0);
    free(exact);
    exact = malloc((size_t)length);
    FUZZ_CHECK(exact);
    memset(exact, 0x5a, (size_t)length);
    FUZZ_CHECK(iocp_address_format(address, exact, (size_t)length) == IOCP_EMSGSIZE);
    FUZZ_CHECK(exact[0] == 0x5a);
    free(exact);
}

static void check_round_trip(const struct iocp_address *address)
{
    char text[IOCP_ADDRESS_TEXT_SIZE];
    char again_text[IOCP_ADDRESS_TEXT_SIZE];
    struct iocp_address again;
    int length = iocp_address_format(address, text, sizeof(text));
    FUZZ_CHECK(length > 0 && (size_t)length == strlen(text));
    format_exactly(address, text, length);
    /* The system gives out names that fill all of sun_path; `parse` keeps room for a 0. */
    if (iocp_address_family(address) == IOCP_FAMILY_UNIX && length >= 5 + 108)
        return;
    FUZZ_CHECK(iocp_address_parse(text, &again) == 0);
    FUZZ_CHECK(iocp_address_equal(address, &again) && iocp_address_equal(&again, address));
    FUZZ_CHECK(iocp_address_family(address) == iocp_address_family(&again));
    FUZZ_CHECK(iocp_address_port(address) == iocp_address_port(&again));
    FUZZ_CHECK(iocp_address_host_hash(address) == iocp_address_host_hash(&again));
    /* The text is the only one that `format` writes. */
    FUZZ_CHECK(iocp_address_format(&again, again_text, sizeof(again_text)) == length);
    FUZZ_CHECK(strcmp(text, again_text) == 0);
}

static void check_text(struct fuzz_input input)
{
    struct iocp_address address;
    struct iocp_address untouched;
    char *text = malloc(input.size + 1);
    FUZZ_CHECK(text);
    memcpy(text, input.data, input.size);
    text[input.size] = 0;
    memset(&address, 0x5a, sizeof(address));
    memset(&untouched, 0x5a, sizeof(untouched));
    int error = iocp_address_parse(text, &address);
    FUZZ_CHECK(error == 0 || error == IOCP_EINVAL);
    if (error == 0)
        check_round_trip(&address);
    else
        FUZZ_CHECK(memcmp(&address, &untouched, sizeof(address)) == 0);
    free(text);
}

static void check_bytes(struct fuzz_input input)
{
    struct iocp_address address;
    struct iocp_address moved;
    char text[IOCP_ADDRESS_TEXT_SIZE];
    memset(&address, 0, sizeof(address));
    if (input.size == 0 || input.size > sizeof(address.storage.bytes))
        return;
    memcpy(address.storage.bytes, input.data, input.size);
    address.size = (uint32_t)input.size;
    int length = iocp_address_format(&address, text, sizeof(text));
    FUZZ_CHECK(length > 0 || length == IOCP_EINVAL);
    if (length < 0)
        return;
    check_round_trip(&address);
    /* Another port is another place on the same host. */
    moved = address;
    if (iocp_address_set_port(&moved, (uint16_t)(iocp_address_port(&address) ^ 1)) == 0) {
        FUZZ_CHECK(!iocp_address_equal(&address, &moved));
        FUZZ_CHECK(iocp_address_host_hash(&address) == iocp_address_host_hash(&moved));
        check_round_trip(&moved);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    if (fuzz_byte(&input) & 1)
        check_bytes(input);
    else
        check_text(input);
    return 0;
}

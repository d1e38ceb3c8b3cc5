/* The protocols by name. */
#include "protocol.h"

#include <string.h>

const struct protocol *protocol_find(const char *name)
{
    static const struct protocol *const all[] = {
        &protocol_echo, &protocol_framed, &protocol_room,
        &protocol_chat, &protocol_storm,  &protocol_idle,
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}

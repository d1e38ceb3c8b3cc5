/* The directory: who is here under which name, and which rooms there are.
 *
 * Threads: any thread may call anything. One lock guards the tables; under it nothing is sent and
 * no handler can run. */
#ifndef APPS_CHAT_DIRECTORY_H
#define APPS_CHAT_DIRECTORY_H

#include "../common/system.h"
#include "event.h"
#include "room.h"

struct person;

struct directory {
    struct system_lock *lock;
    struct person *people; /* by name */
    struct room *rooms;    /* by name */
    uint32_t rooms_max;
};

/* How to reach a person that was found. */
struct contact {
    uint64_t id; /* of the session */
    enum protocol protocol;
    size_t name_size;
    char name[NAME_SIZE_MAX]; /* as its owner writes it */
};

/* IOCP_ENOMEM; directory_free is right after that as well. */
int directory_init(struct directory *directory, uint32_t rooms_max);
/* Nobody is in it any more, and no room is referenced. */
void directory_free(struct directory *directory);

/* Gives the person a name, in place of the one that it has. IOCP_EEXIST: another one has it.
 * IOCP_ENOMEM: the person has no name now. */
int directory_name(struct directory *directory, struct person *person, struct text name);
void directory_unname(struct directory *directory, struct person *person);

/* Finds a person. IOCP_ENOTFOUND. */
int directory_find(struct directory *directory, struct text name, struct contact *out_contact);

/* Finds or makes a room, and gives a reference. IOCP_EFULL (rooms_max), IOCP_ENOMEM. */
int directory_room(struct directory *directory, struct text name, struct room **out_room);
/* Gives the reference back; a room without any is gone. */
void directory_room_put(struct directory *directory, struct room *room);
uint32_t directory_room_count(struct directory *directory);

/* Puts a person into a room, or takes it out, for `directory_people`. */
void directory_enter(struct directory *directory, struct person *person, struct room *room);
void directory_leave(struct directory *directory, struct person *person);

/* Copies the first of the names into the roster. */
void directory_people(struct directory *directory, const struct room *room, struct roster *roster);
void directory_rooms(struct directory *directory, struct roster *roster);

#endif

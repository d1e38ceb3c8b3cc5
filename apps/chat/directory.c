/* Two hash tables and a lock.
 *
 * Invariants:
 * 1. A person is in the table of names from directory_name to directory_unname, and only its own
 *    handlers call these; so an entry of the table is always a session that lives.
 * 2. A room is in the table as long as it has references: each person in it holds one.
 * 3. Nothing is freed, sent or waited for under the lock. Making a room under it only allocates. */
#include "directory.h"

#include "person.h"

#include <assert.h>
#include <string.h>
#include <utlist.h>

int directory_init(struct directory *directory, uint32_t rooms_max)
{
    *directory = (struct directory){.rooms_max = rooms_max, .lock = system_lock_create()};
    return directory->lock != NULL ? 0 : IOCP_ENOMEM;
}

void directory_free(struct directory *directory)
{
    assert(directory->people == NULL && directory->rooms == NULL);
    system_lock_free(directory->lock);
}

/* What has `_locked` in its name runs under the lock. */
static void directory_unname_locked(struct directory *directory, struct person *person)
{
    if (person->hh.tbl != NULL) {
        HASH_DEL(directory->people, person);
        person->hh.tbl = NULL;
    }
}

static int directory_name_locked(struct directory *directory, struct person *person,
                                 struct text name)
{
    struct person *other = NULL;
    HASH_FIND(hh, directory->people, name.data, name.size, other);
    if (other != NULL && other != person) {
        return IOCP_EEXIST;
    }
    directory_unname_locked(directory, person);
    memcpy(person->name_bytes, name.data, name.size);
    person->name = (struct text){.data = person->name_bytes, .size = name.size};
    HASH_ADD_KEYPTR(hh, directory->people, person->name_bytes, name.size, person);
    return person->hh.tbl == NULL ? IOCP_ENOMEM : 0;
}

int directory_name(struct directory *directory, struct person *person, struct text name)
{
    assert(name.size > 0 && name.size <= NAME_SIZE_MAX);
    system_lock_acquire(directory->lock);
    int error = directory_name_locked(directory, person, name);
    system_lock_release(directory->lock);
    return error;
}

void directory_unname(struct directory *directory, struct person *person)
{
    system_lock_acquire(directory->lock);
    directory_unname_locked(directory, person);
    system_lock_release(directory->lock);
}

int directory_find(struct directory *directory, struct text name, struct contact *out_contact)
{
    struct person *person = NULL;
    system_lock_acquire(directory->lock);
    HASH_FIND(hh, directory->people, name.data, name.size, person);
    if (person != NULL) {
        *out_contact = (struct contact){
            .id = person->id, .protocol = person->protocol, .name_size = person->name.size};
        memcpy(out_contact->name, person->name.data, person->name.size);
    }
    system_lock_release(directory->lock);
    return person != NULL ? 0 : IOCP_ENOTFOUND;
}

static int directory_room_locked(struct directory *directory, struct text name,
                                 struct room **out_room)
{
    struct room *room = NULL;
    HASH_FIND(hh, directory->rooms, name.data, name.size, room);
    if (room != NULL) {
        room->refs++;
        *out_room = room;
        return 0;
    }
    if (HASH_COUNT(directory->rooms) >= directory->rooms_max) {
        return IOCP_EFULL;
    }
    room = room_create(name);
    if (room == NULL) {
        return IOCP_ENOMEM;
    }
    HASH_ADD_KEYPTR(hh, directory->rooms, room->name_bytes, room->name.size, room);
    if (room->hh.tbl == NULL) {
        room_free(room);
        return IOCP_ENOMEM;
    }
    *out_room = room;
    return 0;
}

int directory_room(struct directory *directory, struct text name, struct room **out_room)
{
    assert(name.size > 0 && name.size <= ROOM_SIZE_MAX);
    system_lock_acquire(directory->lock);
    int error = directory_room_locked(directory, name, out_room);
    system_lock_release(directory->lock);
    return error;
}

void directory_room_put(struct directory *directory, struct room *room)
{
    system_lock_acquire(directory->lock);
    bool last = --room->refs == 0;
    if (last) {
        HASH_DEL(directory->rooms, room);
    }
    system_lock_release(directory->lock);
    if (last) {
        room_free(room);
    }
}

uint32_t directory_room_count(struct directory *directory)
{
    system_lock_acquire(directory->lock);
    uint32_t count = HASH_COUNT(directory->rooms);
    system_lock_release(directory->lock);
    return count;
}

void directory_enter(struct directory *directory, struct person *person, struct room *room)
{
    system_lock_acquire(directory->lock);
    DL_APPEND(room->people, person);
    room->people_count++;
    person->room = room;
    system_lock_release(directory->lock);
}

void directory_leave(struct directory *directory, struct person *person)
{
    system_lock_acquire(directory->lock);
    DL_DELETE(person->room->people, person);
    person->room->people_count--;
    person->room = NULL;
    system_lock_release(directory->lock);
}

static void directory_roster_add(struct roster *roster, struct text name, uint32_t people)
{
    struct roster_entry *entry = &roster->entries[roster->count++];
    entry->people = people;
    entry->size = (uint32_t)name.size;
    memcpy(entry->name, name.data, name.size);
}

void directory_people(struct directory *directory, const struct room *room, struct roster *roster)
{
    system_lock_acquire(directory->lock);
    roster->total = room->people_count;
    roster->count = 0;
    for (const struct person *person = room->people; person != NULL && roster->count < ROSTER_MAX;
         person = person->next) {
        directory_roster_add(roster, person->name, 0);
    }
    system_lock_release(directory->lock);
}

void directory_rooms(struct directory *directory, struct roster *roster)
{
    system_lock_acquire(directory->lock);
    roster->total = HASH_COUNT(directory->rooms);
    roster->count = 0;
    for (const struct room *room = directory->rooms; room != NULL && roster->count < ROSTER_MAX;
         room = room->hh.next) {
        directory_roster_add(roster, room->name, room->people_count);
    }
    system_lock_release(directory->lock);
}

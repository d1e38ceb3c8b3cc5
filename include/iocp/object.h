/* The ref-counted object: anything with a handle that operations run on (the notes' IocpObject).
 *
 * Embed it as the first member of your own struct. Every submitted op holds one reference on its
 * owner until its last handler has returned, so an object is never freed under an operation.
 *
 * Threads: ref, unref and close may be called from anywhere, also from handlers. */
#ifndef IOCP_OBJECT_H
#define IOCP_OBJECT_H

#include <iocp/abi.h>
#include <iocp/op.h>

IOCP_BEGIN

struct iocp_port;

struct iocp_object_class {
    const char *name;
    /* An answer for an op that has no handler of its own (the notes' virtual Dispatch). */
    void (*complete)(struct iocp_object *object, const struct iocp_packet *packet);
    /* The last reference is gone: free it. Runs on the thread that gave the reference back, under
     * no lock of the library. The handle is closed already, if the object was registered. */
    void (*destroy)(struct iocp_object *object);
    /* Not 0: inside dispatch the handlers of one object never overlap, whatever the number of
     * workers, and run in the order of their packets. */
    int serial;
};

/* Transparent, so that it can be embedded; its members are the library's. */
struct iocp_object {
    const struct iocp_object_class *object_class;
    struct iocp_port *port;
    struct iocp__lane *lane;
    iocp_handle handle;
    uintptr_t key;
    struct iocp_op *active[3];     /* per direction: what the backend has */
    struct iocp_op *queue[3];      /* per direction: what waits behind it; ring, the last op */
    struct iocp_event *serial;     /* packets that wait for the running handler */
    struct iocp_object *lane_next; /* all objects of the lane */
    struct iocp_object *lane_back;
    struct iocp_object *change_next; /* to be attached or closed by the lane */
    uint32_t refs;
    uint32_t pending;  /* ops of the handle not answered; the lane's */
    uint32_t state;    /* enum iocp__object_state of core/object.h */
    uint32_t attached; /* the lane's */
    uint32_t backend;  /* the backend's own */
    uint32_t backend_data;
};

/* Makes an object with one reference. Allocates nothing. `object_class` is shared, for ever. */
IOCP_API void iocp_object_init(struct iocp_object *object,
                               const struct iocp_object_class *object_class);

IOCP_API struct iocp_object *iocp_object_ref(struct iocp_object *object);
/* Gives a reference back; NULL is fine. Returns NULL. */
IOCP_API struct iocp_object *iocp_object_unref(struct iocp_object *object);

/* Cancels what is pending on the object's handle; when all of it is answered, closes the handle and
 * gives the port's reference back. Returns at once; a second call, or one on an object that was
 * never registered, does nothing. Ops submitted later are answered with IOCP_ECLOSED. Posts and
 * timers that the object owns go on: cancel them yourself. */
IOCP_API void iocp_object_close(struct iocp_object *object);

/* The handle, IOCP_HANDLE_INVALID before registration. It is the port's to close: ask it, set its
 * options, but read, write and close it only through the port. */
IOCP_API iocp_handle iocp_object_handle(const struct iocp_object *object);

IOCP_END

#endif

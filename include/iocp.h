/* iocp: the I/O completion port on Linux and Windows, and the server layer that belongs on it.
 *
 * This header is all of it. To read it from the bottom up: error, memory, buffer, address, op,
 * object, port, workers; then framing, listener, session, service, group. */
#ifndef IOCP_H
#define IOCP_H

#include <iocp/abi.h>
#include <iocp/version.h>

#include <iocp/address.h>
#include <iocp/buffer.h>
#include <iocp/error.h>
#include <iocp/memory.h>

#include <iocp/object.h>
#include <iocp/op.h>
#include <iocp/port.h>
#include <iocp/workers.h>

#include <iocp/framing.h>
#include <iocp/group.h>
#include <iocp/listener.h>
#include <iocp/service.h>
#include <iocp/session.h>

#endif

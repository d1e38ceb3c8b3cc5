/* Tickets, lanes and the stack of waiting workers: src/core/gate.c, with what packet.c, lane.c and a
 * backend with lanes of its own do around it. README.md says how it is read, `run` with which sizes
 * it is checked.
 *
 * A lock's section is one step, and so is each sequentially consistent access outside of one. What
 * stands behind // are functions of the code. Lanes count from 1; 0 is NULL. */

#ifndef LIMIT
#define LIMIT 1 /* tickets */
#endif
#ifndef LANES
#define LANES 1 /* at most; the port begins with one */
#endif
#ifndef PERMANENT
#define PERMANENT 2 /* workers that wait for ever, */
#endif
#ifndef TIMED
#define TIMED 0 /* that may time out at any moment, */
#endif
#ifndef POLLERS
#define POLLERS 0 /* and that only look; both end after */
#endif
#ifndef CALLS
#define CALLS 2
#endif
#ifndef POSTS
#define POSTS 2
#endif
#ifndef ORDERS
#define ORDERS 0 /* submitted by a thread that is no worker */
#endif
#ifndef HANDLER_ORDERS
#define HANDLER_ORDERS 0 /* submitted by handlers: their bells are put off */
#endif
#ifndef BLOCKS
#define BLOCKS 0 /* handlers that declare that they block, until all other packets are handled, */
#endif
#ifndef HANGS
#define HANGS 0 /* and that block as long without a word: needs the watch */
#endif
#ifndef WAKES
#define WAKES 0 /* iocp_port_wake */
#endif
#ifndef TIMERS
#define TIMERS 0 /* 0 or 1 */
#endif
#ifndef WATCH
#define WATCH 0 /* 1: there is a watch, which does what it can when nothing else happens */
#endif
#ifndef TICKS
#define TICKS 0 /* of the watch, at most, while other things happen */
#endif

#define WORKERS (PERMANENT + TIMED + POLLERS)
#define PACKETS (POSTS + ORDERS + HANDLER_ORDERS + TIMERS)
#define TOTAL (PACKETS - orders_left)

#define OUT 0
#define INSIDE 1
#define BUSY 2
#define SEIZED 3

#define AT_ONCE 0 /* deadlines */
#define AT_TIMER 1
#define NEVER 2

/* ---- Lanes, and the kernel behind each. */
byte lane_count = 1;
byte reserved = 1;
bit rung[LANES + 1];       /* the bell's token */
byte requests[LANES + 1];  /* that the kernel works on */
byte finished[LANES + 1];  /* that it has finished, for the lane's next wait */
byte watches[LANES + 1];   /* lanes that this one's wait watches, a bit each */
byte inbox[LANES + 1];
bit sleeping[LANES + 1];
bit owed[LANES + 1];
bit hot[LANES + 1];
bit objects[LANES + 1];
byte ready[LANES + 1];
byte holder[LANES + 1];
byte watcher[LANES + 1];

/* ---- The gate and the port. */
byte running;
byte sleepers;
byte stack[WORKERS + 1]; /* the top is stack[sleepers - 1] */
byte duty;
byte free_lanes = 1;
byte epoch;
bit closed;
bit timer_set;
bit timer_due;

/* ---- Workers. */
byte phase[WORKERS + 1];
bit moved[WORKERS + 1]; /* `sequence` is another than the watch saw */
bit ticket[WORKERS + 1];
bit granted[WORKERS + 1];
byte granted_lane[WORKERS + 1];
bit waiting[WORKERS + 1];
bit parker[WORKERS + 1];
byte lane_of[WORKERS + 1];
byte home[WORKERS + 1];
byte wait_lane[WORKERS + 1];
byte wait_deadline[WORKERS + 1];
byte epoch_of[WORKERS + 1];

/* ---- What the model counts. */
byte handled;
byte blocked;
byte blocks_left = BLOCKS;
byte hangs_left = HANGS;
byte orders_left = HANDLER_ORDERS;
byte ended;
byte at; /* inside of one step only: 0 elsewhere */
byte who;
byte heir;
bit grant;
bit needy;

#define TOP stack[sleepers - 1]
/* A lane whose packets anybody takes: of gate_ready. */
#define OPEN(l) ((l) == 1 || !holder[l] || hot[l])
#define SECOND (LANES > 1 && lane_count > 1)
#define GATE_READY ((ready[1] != 0) || (SECOND && ready[LANES] && OPEN(LANES)))
#define IS_ORPHAN(l) (!holder[l] && !watcher[l] && objects[l])
#define ORPHAN (IS_ORPHAN(1) || (SECOND && IS_ORPHAN(LANES)))

/* ---- Under the gate's lock: parts of one step. */

inline count_running(change)
{
    running = running + change;
    assert(running <= LIMIT)
}

// gate_remove
inline remove(w)
{
    at = 0;
    do
    :: stack[at] == w -> break
    :: else -> at++
    od;
    do
    :: at + 1 < sleepers -> stack[at] = stack[at + 1]; at++
    :: else -> break
    od;
    stack[at] = 0;
    at = 0;
    sleepers--;
    waiting[w] = 0;
    if
    :: duty == w -> duty = 0
    :: else
    fi
}

/* gate_wake: whom to ring or to release goes into `wake`, a bit each: of a lane, or of a worker. */
inline wake(w, grant)
{
    who = w;
    remove(who);
    if
    :: grant -> granted[who] = 1; count_running(1)
    :: else
    fi;
    if
    :: wait_lane[who] -> bells = bells | (1 << wait_lane[who])
    :: else -> releases = releases | (1 << who)
    fi;
    who = 0
}

// gate_parked: to `at`, 0 when there is none
inline find_parked()
{
    at = sleepers;
    do
    :: at && wait_lane[stack[at - 1]] -> at--
    :: else -> break
    od;
    if
    :: at -> at = stack[at - 1]
    :: else
    fi
}

/* gate_settle. `heir`: a parked worker that gets the lane that nobody looks after, 1 with its
 * ticket. */
inline settle(stuck)
{
    grant = (sleepers && running < LIMIT && GATE_READY);
    needy = (sleepers && ORPHAN);
    heir = 0;
    if
    :: needy -> find_parked(); heir = at; at = 0
    :: else
    fi;
    if
    :: heir ->
        if
        :: IS_ORPHAN(1) -> granted_lane[heir] = 1; holder[1] = heir
        :: else -> granted_lane[heir] = LANES; holder[LANES] = heir
        fi;
        free_lanes--;
        wake(heir, grant)
    :: !heir && grant -> wake(TOP, 1)
    :: else
    fi;
    if
    :: sleepers && needy && !heir && (stuck || running == 0) -> wake(TOP, 0)
    :: else
    fi;
    if
    :: sleepers && !duty && !bells && !releases && (stuck || running == 0) -> wake(TOP, 0)
    :: else
    fi;
    grant = 0;
    needy = 0;
    heir = 0
}

inline drop_ticket(w)
{
    if
    :: ticket[w] -> ticket[w] = 0; count_running(-1)
    :: else
    fi
}

inline drop_lane(w)
{
    if
    :: lane_of[w] ->
        watcher[lane_of[w]] = 0;
        holder[lane_of[w]] = 0;
        free_lanes++;
        lane_of[w] = 0
    :: else
    fi
}

// gate_deliver: after the lock
inline deliver()
{
    do
    :: bells & 2 -> atomic { rung[1] = 1; bells = bells & ~2 }
    :: LANES > 1 && (bells & 4) -> atomic { rung[LANES] = 1; bells = bells & ~4 }
    :: releases & 2 -> atomic { parker[1] = 1; releases = releases & ~2 }
    :: releases & 4 -> atomic { parker[2 % (WORKERS + 1)] = 1; releases = releases & ~4 }
    :: releases & 8 -> atomic { parker[3 % (WORKERS + 1)] = 1; releases = releases & ~8 }
    :: !bells && !releases -> break
    od
}

/* ---- From any thread. */

// iocp__gate_work
inline gate_work()
{
    if
    :: sleepers ->
        atomic {
            if
            :: sleepers && running < LIMIT -> wake(TOP, 1)
            :: else
            fi
        };
        deliver()
    :: else
    fi
}

// iocp__gate_orders
inline gate_orders(l)
{
    if
    :: holder[l] == 0 ->
        atomic {
            if
            :: !holder[l] && watcher[l] ->
                bells = bells | (1 << lane_of[watcher[l]])
            :: !holder[l] && !watcher[l] -> settle(0)
            :: else
            fi
        };
        deliver()
    :: else
    fi
}

// iocp__gate_settle_owed
inline settle_owed()
{
    if
    :: atomic { owed[1] -> owed[1] = 0 }; rung[1] = 1
    :: !owed[1]
    fi;
    if
    :: atomic { SECOND && owed[LANES] -> owed[LANES] = 0 }; rung[LANES] = 1
    :: !(SECOND && owed[LANES])
    fi
}

/* ---- lane.c */

/* iocp__lane_serve of `l`, waiting until `until`; `poll`: it does not look at `sleeping`. */
inline serve(l, until)
{
    do
    :: atomic { inbox[l] -> requests[l] = requests[l] + inbox[l]; inbox[l] = 0; objects[l] = 1 }
    :: atomic { !inbox[l] -> sleeping[l] = (until != AT_ONCE); break }
    od;
    /* The wait of the backend. */
    if
    :: until == AT_ONCE -> skip
    :: rung[l] -> skip
    :: finished[l] -> skip
    :: LANES > 1 && (watches[l] & 2) && finished[1] -> skip
    :: LANES > 1 && (watches[l] & 4) && finished[LANES] -> skip
    :: until == AT_TIMER && timer_due -> skip
    :: until != AT_ONCE && timed -> late = 1
    fi;
    atomic {
        rung[l] = 0;
        found = finished[l];
        finished[l] = 0;
        if
        :: LANES > 1 && finished[1] -> watches[l] = watches[l] & ~2
        :: else
        fi;
        if
        :: LANES > 1 && finished[LANES] -> watches[l] = watches[l] & ~4
        :: else
        fi
    };
    // lane_publish
    atomic { sleeping[l] = 0; ready[l] = ready[l] + found; found = 0 }
}

// iocp__lane_take
inline take(l)
{
    atomic {
        if
        :: !found && ready[l] -> ready[l]--; found = 1
        :: else
        fi
    }
}

/* ---- packet.c and the worker's part of gate.c */

// packet_ask_help: whether packets take long is anybody's guess
inline ask_help(l)
{
    if
    :: ready[l] > 1 -> hot[l] = 1; gate_work()
    :: hot[l] = 0
    fi
}

// packet_expire_timers
inline expire_timers()
{
    if
    :: atomic { timer_set && timer_due -> timer_set = 0 }; ready[1]++
    :: !(timer_set && timer_due)
    fi
}

// iocp__gate_ticket
inline get_ticket()
{
    atomic {
        if
#ifdef BUG_NO_TICKET
        :: !ticket[me] -> ticket[me] = 1; count_running(1)
#else
        :: !ticket[me] && running < LIMIT -> ticket[me] = 1; count_running(1)
#endif
        :: else
        fi
    }
}

/* packet_ready, of a worker with lane lane_of[me] */
#define PACKET_READY (ready[1] || (SECOND && ready[LANES] && \
    (lane_of[me] == LANES || !holder[LANES] || hot[LANES])))

// packet_find, packet_take, packet_steal
inline find()
{
    expire_timers();
    if
    :: PACKET_READY ->
        get_ticket();
        if
        :: ticket[me] ->
            if
            :: lane_of[me] -> take(lane_of[me])
            :: else
            fi;
            take(1);
            if
            :: !found && SECOND && (!holder[LANES] || hot[LANES]) -> take(LANES)
            :: else
            fi
        :: else
        fi
    :: else
    fi
}

// iocp__gate_lane, gate_create_lane
inline get_lane()
{
    if
    :: lane_of[me] == 0 ->
        atomic {
            if
            :: home[me] && !holder[home[me]] -> at = home[me]
            :: !(home[me] && !holder[home[me]]) && !holder[1] -> at = 1
            :: SECOND && !(home[me] && !holder[home[me]]) && !holder[LANES] -> at = LANES
            :: !(home[me] && !holder[home[me]]) && holder[1] && !(SECOND && !holder[LANES])
            fi;
            if
            :: at -> watcher[at] = 0; holder[at] = me; free_lanes--; lane_of[me] = at;
                home[me] = at
            :: !at && reserved < LANES -> reserved++; create = 1
            :: else
            fi;
            at = 0
        };
        if
        :: create ->
            atomic { create = 0; holder[LANES] = me; lane_of[me] = LANES; home[me] = LANES;
                lane_count++ }
        :: else
        fi
    :: else
    fi
}

// iocp__gate_make_way
inline make_way()
{
    if
    :: ticket[me] && running == LIMIT && sleepers ->
        atomic {
            at = sleepers;
            do
            :: at && !(wait_lane[stack[at - 1]] && ready[wait_lane[stack[at - 1]]]) -> at--
            :: else -> break
            od;
            if
            :: at ->
                at = stack[at - 1];
                drop_ticket(me);
                wake(at, 1)
            :: else
            fi;
            at = 0
        };
        deliver()
    :: else
    fi
}

// iocp__gate_visit, of one lane; `visited`: packets are there
inline visit(l)
{
    if
    :: objects[l] && !holder[l] ->
        atomic {
            if
            :: !holder[l] -> holder[l] = me; free_lanes--; claimed = 1
            :: else
            fi
        };
        if
        :: claimed ->
            claimed = 0;
            serve(l, AT_ONCE);
            visited = visited | (ready[l] != 0);
            atomic { holder[l] = 0; free_lanes++ }
        :: else
        fi
    :: else
    fi
}

// iocp__gate_watch, of one lane
inline gate_watch(l)
{
    atomic {
        if
        :: !holder[l] && !watcher[l] && objects[l] -> watcher[l] = me; claimed = 1
        :: else
        fi
    };
    if
    :: claimed -> claimed = 0; watches[lane_of[me]] = watches[lane_of[me]] | (1 << (l))
    :: else
    fi
}

// iocp__gate_sleep
inline gate_sleep()
{
    atomic {
        drop_ticket(me);
        until = NEVER;
        on_duty = (duty == 0);
        if
        :: on_duty -> duty = me;
            if
            :: timer_set -> until = AT_TIMER
            :: else
            fi
        :: else
        fi;
        wait_lane[me] = lane_of[me];
        wait_deadline[me] = until;
        stack[sleepers] = me;
        sleepers++;
        waiting[me] = 1
    }
}

// iocp__gate_awake
inline gate_awake()
{
    atomic {
        if
        :: waiting[me] -> remove(me)
        :: else
        fi;
        ticket[me] = granted[me];
        granted[me] = 0;
#ifdef BUG_LANE_LOST
        granted_lane[me] = 0;
#endif
        if
        :: granted_lane[me] ->
            lane_of[me] = granted_lane[me];
            home[me] = granted_lane[me];
            granted_lane[me] = 0
        :: else
        fi;
        wait_lane[me] = 0;
        if
        :: watcher[1] == me -> watcher[1] = 0
        :: else
        fi;
        if
        :: SECOND && watcher[LANES] == me -> watcher[LANES] = 0
        :: else
        fi
    }
}

// the end of packet_sleep's condition: what came up meanwhile
inline look_again()
{
#ifndef BUG_NO_LOOK_AGAIN
    if
    :: closed || epoch != epoch_of[me] -> until = AT_ONCE
    :: else
    fi;
    // iocp__gate_is_needed
    if
    :: free_lanes ->
        atomic {
            if
            :: ORPHAN || (watcher[1] == me && inbox[1]) ||
                (SECOND && watcher[LANES] == me && inbox[LANES]) -> until = AT_ONCE
            :: else
            fi
        }
    :: else
    fi;
    if
    :: on_duty && timer_set && until == NEVER -> until = AT_ONCE
    :: else
    fi;
    if
    :: until != AT_ONCE && PACKET_READY ->
        if
        :: running < LIMIT -> until = AT_ONCE
        :: else
        fi
    :: else
    fi
#else
    skip
#endif
}

// packet_sleep
inline sleep()
{
    if
    :: lane_of[me] && free_lanes ->
        gate_watch(1);
        if
        :: SECOND -> gate_watch(LANES)
        :: else
        fi
    :: else
    fi;
#ifndef BUG_NOT_HOT
    if
    :: lane_of[me] && ready[lane_of[me]] -> hot[lane_of[me]] = 1
    :: else
    fi;
#endif
    gate_sleep();
    look_again();
    if
    :: lane_of[me] ->
        serve(lane_of[me], until);
        gate_awake();
        ask_help(lane_of[me])
    :: else ->
        if
        :: until == AT_ONCE -> skip
        :: until != AT_ONCE && parker[me] -> parker[me] = 0
        :: until == AT_TIMER && timer_due -> skip
        :: until != AT_ONCE && timed -> late = 1
        fi;
        gate_awake()
    fi;
    until = NEVER;
    on_duty = 0
}

// iocp__gate_block and the bells that are owed
inline gate_block()
{
    if
    :: atomic { phase[me] == BUSY -> phase[me] = SEIZED }
    :: phase[me] == SEIZED
    fi;
    atomic { drop_ticket(me); drop_lane(me); settle(running == 0) };
    deliver();
    settle_owed()
}

// port_ring from a handler
inline handler_submits(l)
{
    atomic { inbox[l]++; found = sleeping[l]; sleeping[l] = 0 };
    if
    :: found && phase[me] == BUSY -> owed[l] = 1; owes = 1
    :: found && phase[me] != BUSY -> rung[l] = 1
    :: !found -> gate_orders(l)
    fi;
    found = 0
}

// packet_handle
inline handle()
{
progress_handle:
    do
    :: atomic { orders_left -> orders_left-- };
        if
        :: handler_submits(1)
        :: SECOND -> handler_submits(LANES)
        fi
    :: atomic { blocks_left -> blocks_left--; blocked++ };
        gate_block();
        atomic { handled + blocked >= TOTAL -> blocked--; handled++ };
        break
    :: atomic { hangs_left -> hangs_left--; blocked++ };
        atomic { handled + blocked >= TOTAL -> blocked--; handled++ };
        break
    :: handled++; break
    od;
    moved[me] = 1
}

proctype worker(byte me; bit timed; bit poller)
{
    byte until = NEVER;
    byte found;
    byte bells;
    byte releases;
    byte calls = CALLS;
    bit late; /* its time is over */
    bit looked;
    bit on_duty;
    bit create;
    bit claimed;
    bit visited;
    bit owes;
call:
    if
    :: (timed || poller) && calls == 0 -> goto gone
    :: (timed || poller) && calls -> calls--
    :: !timed && !poller
    fi;
    epoch_of[me] = epoch;
    late = 0;
    looked = 0;
    // iocp__gate_enter
    moved[me] = 1;
    if
    :: atomic { phase[me] == BUSY -> phase[me] = INSIDE }
    :: phase[me] != BUSY -> phase[me] = INSIDE
    fi;
    // packet_begin
    if
    :: free_lanes -> get_lane()
    :: else
    fi;
    if
    :: lane_of[me] == 0 -> make_way()
    :: else
    fi;
next: // packet_next
    if
    :: closed -> goto leave
    :: else
    fi;
    find();
    if
    :: found -> found = 0; goto out
    :: else
    fi;
    if
    :: closed || epoch != epoch_of[me] -> goto leave
    :: else
    fi;
    if
    :: looked && (poller || timed) -> goto leave
    :: !(looked && (poller || late))
    fi;
    looked = 1;
    // packet_wait_turn
    get_lane();
    if
    :: free_lanes ->
        visit(1);
        if
        :: SECOND -> visit(LANES)
        :: else
        fi;
        if
        :: visited -> visited = 0; get_ticket();
            if
            :: ticket[me] -> goto next
            :: else
            fi
        :: else
        fi
    :: else
    fi;
    if
    :: poller ->
        // packet_poll
        if
        :: lane_of[me] -> serve(lane_of[me], AT_ONCE); ask_help(lane_of[me])
        :: else
        fi
    :: !poller -> sleep()
    fi;
    goto next;
out: // iocp__gate_exit, then the batch
    assert(ticket[me] && phase[me] == INSIDE);
    phase[me] = BUSY;
    do
    :: handle();
        if
        :: phase[me] == BUSY ->
            if
            :: home[me] -> take(home[me])
            :: skip /* the batch is full */
            fi;
            take(1)
        :: skip
        fi;
        if
        :: found -> found = 0
        :: else -> break
        fi
    od;
    if
    :: owes -> owes = 0; settle_owed()
    :: else
    fi;
    if
    :: timed || poller ->
        /* The thread may stay away for as long as it likes. */
        if
        :: calls == 0 -> goto leave
        :: else
        fi
    :: else
    fi;
    goto call;
leave: // iocp__gate_leave
    atomic {
        phase[me] = OUT;
        drop_ticket(me);
#ifdef BUG_LEAVE_SILENTLY
        drop_lane(me)
#else
        drop_lane(me);
        settle(0)
#endif
    };
    deliver();
    if
    :: closed -> goto gone
    :: else -> goto call
    fi;
gone:
    atomic { epoch_of[me] = 0; ended++ }
}

// iocp_port_post
proctype poster()
{
    byte left = POSTS;
    byte bells;
    byte releases;
    do
    :: left ->
        left--;
#ifdef BUG_LOOK_FIRST
        bit anybody = (sleepers != 0);
        ready[1]++;
        if
        :: anybody -> gate_work()
        :: else
        fi
#else
        ready[1]++;
        gate_work()
#endif
    :: else -> break
    od
}

// iocp_port_submit of a thread that is no worker
proctype submitter()
{
    byte left = ORDERS;
    byte bells;
    byte releases;
    byte l;
    bit ring;
    do
    :: left ->
        left--;
        if
        :: l = 1
        :: SECOND -> l = LANES
        fi;
        objects[l] = 1; // iocp_port_register
        atomic { inbox[l]++; ring = sleeping[l]; sleeping[l] = 0 };
        if
        :: ring -> ring = 0; rung[l] = 1
        :: else -> gate_orders(l)
        fi
    :: else -> break
    od
}

/* The kernel finishes what it works on. */
active proctype device()
{
end:
    do
    :: atomic { requests[1] -> requests[1]--; finished[1]++ }
    :: atomic { LANES > 1 && requests[LANES] -> requests[LANES]--; finished[LANES]++ }
    od
}

// iocp__gate_all
inline wake_all()
{
    do
    :: atomic { sleepers -> wake(TOP, 0) }; deliver()
    :: !sleepers -> break
    od
}

proctype waker()
{
    byte left = WAKES;
    byte bells;
    byte releases;
    do
    :: left -> left--; epoch++; wake_all()
    :: else -> break
    od
}

// port_submit_timer, iocp__gate_timer; and time, which passes
proctype timer()
{
    byte bells;
    byte releases;
    timer_set = 1;
    if
    :: sleepers ->
        atomic {
            if
            :: duty && wait_deadline[duty] > AT_TIMER -> wake(duty, 0)
            :: !duty -> settle(0)
            :: else
            fi
        };
        deliver()
    :: else
    fi;
    timer_due = 1
}

// iocp__gate_seize
inline seize(w, is_blocked)
{
    atomic {
        if
        :: phase[w] == BUSY -> phase[w] = SEIZED
        :: else
        fi;
        if
        :: phase[w] == SEIZED ->
            drop_lane(w);
            if
            :: is_blocked && !moved[w] -> drop_ticket(w)
            :: else
            fi;
            settle(1)
        :: else
        fi
    };
    deliver()
}

// iocp__gate_tick
inline tick()
{
    atomic {
        if
        :: sleepers && ((timer_set && timer_due && !duty) || ORPHAN || GATE_READY) -> settle(1)
        :: else
        fi
    };
    deliver();
    settle_owed()
}

/* At any moment; the checker does it when nothing else happens. */
proctype watch()
{
    byte left = TICKS;
    byte bells;
    byte releases;
    byte w;
    bit asleep;
    do
    :: left && running ->
        left--;
        if
        :: w = 1
        :: WORKERS > 1 -> w = 2
        :: WORKERS > 2 -> w = 3
        fi;
        moved[w] = 0; /* the tick before */
        if
        :: asleep = 0
        :: asleep = 1
        fi;
        seize(w, asleep);
        w = 0;
        asleep = 0;
        tick()
    :: closed -> break
    od
}

/* When nothing more happens all must be done; then the port is closed, and all must come back. */
active proctype checker()
{
    byte bells;
    byte releases;
    byte w;
    byte before;
    atomic {
        objects[1] = 1;
        w = 1;
        do
        :: w <= WORKERS ->
            run worker(w, w > PERMANENT && w <= PERMANENT + TIMED, w > PERMANENT + TIMED);
            w++
        :: else -> break
        od;
        w = 0;
        if :: POSTS -> run poster() :: else fi;
        if :: ORDERS -> run submitter() :: else fi;
        if :: WAKES -> run waker() :: else fi;
        if :: TIMERS -> run timer() :: else fi;
        if :: TICKS -> run watch() :: else fi
    };
    timeout ->
#if WATCH && !defined(BUG_NO_WATCH)
    /* Ticks go on while workers are out; two are enough to hand one packet over. */
    do
    :: running + blocked && handled != TOTAL ->
        before = handled;
        w = 1;
        do
        :: w <= WORKERS ->
            if
            :: phase[w] == BUSY || phase[w] == SEIZED -> moved[w] = 0; seize(w, 1)
            :: else
            fi;
            w++
        :: else -> break
        od;
        w = 0;
        tick();
        timeout ->
        if
        :: handled != before
        :: else -> tick(); timeout -> assert(handled != before)
        fi
    :: else -> before = 0; break
    od;
#endif
    skip;
    d_step {
        assert(handled == TOTAL);
        assert(ready[1] == 0 && ready[LANES] == 0);
        assert(inbox[1] == 0 && inbox[LANES] == 0);
        w = 1;
        do
        :: w <= WORKERS -> assert(!waiting[w] || epoch_of[w] == epoch); w++
        :: else -> break
        od;
        w = 0
    };
    closed = 1;
    wake_all();
    timeout ->
    assert(ended == WORKERS);
    assert(running == 0 && sleepers == 0)
}

/* The kernel as the gate: src/core/gate_kernel.c, with what packet.c, lane.c and the backend of a
 * system that shares one source of completions do around it. README.md says how it is read, `run`
 * with which sizes it is checked.
 *
 * A lock's section is one step, and so is each sequentially consistent access outside of one. The
 * numbers behind // are functions of the code. */

#ifndef LIMIT
#define LIMIT 1 /* threads that the kernel lets run */
#endif
#ifndef LANES
#define LANES 1
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
#define BLOCKS 0 /* handlers that block until all other packets are handled */
#endif
#ifndef KEEPS
#define KEEPS 0 /* callers that compute until then once they are out, without going back */
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

#define OUT 0
#define INSIDE 1
#define BUSY 2

#define AT_ONCE 0 /* deadlines */
#define AT_TIMER 1
#define NEVER 2

/* ---- The kernel. */
byte allowed;              /* threads that it lets run, and whose */
bit runs[WORKERS + 1];
byte waiters[WORKERS];    /* in its wait; the last is the first to go */
byte waiter_count;
byte bells;               /* its queue: bells, a bit each, */
byte completions[LANES];  /* and completions */
byte got_bells[WORKERS + 1];
byte got[WORKERS + 1];    /* completions, two bits for a lane */
byte requests[LANES];     /* that it works on */

/* ---- Lanes. */
bit rung[LANES];
byte arrived[LANES];
byte inbox[LANES];
bit sleeping[LANES];
bit owed[LANES];
bit due[LANES];
byte holder[LANES];
byte ready[LANES];

/* ---- The gate and the port. */
byte sleepers;
byte list[WORKERS]; /* who waits; the order does not matter here */
bit waiting[WORKERS + 1];
bit stale_of[WORKERS + 1];
byte stale;
byte duty;
byte wait_deadline[WORKERS + 1];
byte wait_epoch[WORKERS + 1];
byte passing; /* a bit each */
bit parker[WORKERS + 1];
byte running;
byte phase[WORKERS + 1];
byte epoch;
bit closed;
bit timer_set;
bit timer_due;

/* ---- What the model counts. */
byte handled;
byte blocked;   /* in a handler that waits for the rest */
byte blocks_left = BLOCKS;
byte keeps_left = KEEPS;
byte orders_left = HANDLER_ORDERS;
byte ended;     /* workers */

#define TOTAL (PACKETS - orders_left)
#define QUEUED (bells || completions[0] || completions[LANES - 1])

/* ---- The kernel's queue. */

/* One packet, whichever; or all, as a call that takes many may. */
inline kernel_take(who)
{
    if
    :: bells & 1 -> bells = bells & 2; got_bells[who] = 1
    :: bells & 2 -> bells = bells & 1; got_bells[who] = 2
    :: completions[0] -> completions[0]--; got[who] = 1
    :: LANES > 1 && completions[LANES - 1] ->
        completions[LANES - 1]--; got[who] = 4
    :: got_bells[who] = bells; got[who] = completions[0];
        bells = 0; completions[0] = 0;
        if
        :: LANES > 1 -> got[who] = got[who] + 4 * completions[LANES - 1];
            completions[LANES - 1] = 0
        :: else
        fi
    fi;
    allowed++;
    runs[who] = 1
}

byte chosen; /* inside of one step only */

inline kernel_let_go()
{
    if
    :: allowed < LIMIT && waiter_count && QUEUED ->
        waiter_count--;
        chosen = waiters[waiter_count];
        waiters[waiter_count] = 0;
        kernel_take(chosen);
        chosen = 0
    :: else
    fi
}

inline kernel_stop_running(who)
{
    allowed = allowed - runs[who];
    runs[who] = 0
}

inline kernel_leave_wait(who)
{
    if
    :: waiters[0] == who -> waiters[0] = waiters[1 % WORKERS]; waiters[1 % WORKERS] = waiters[2 % WORKERS]
    :: waiters[0] != who && waiters[1 % WORKERS] == who ->
        waiters[1 % WORKERS] = waiters[2 % WORKERS]
    :: else
    fi;
    waiter_count--;
    waiters[waiter_count] = 0
}

/* A thread that came out of the port and blocks elsewhere; and goes on. */
inline kernel_block(who)
{
    atomic { kernel_stop_running(who); kernel_let_go() }
}
inline kernel_unblock(who)
{
    atomic { allowed++; runs[who] = 1 }
}

// windows_bell. The exchange, then the packet.
inline bell(lane)
{
    if
    :: atomic { !rung[lane] -> rung[lane] = 1 };
        atomic { bells = bells | (1 << (lane)); kernel_let_go() }
    :: atomic { rung[lane] -> skip }
    fi
}

/* ---- gate_kernel.c */

// kernel_ready, packet_ready: a step for each lane
inline look_ready(found)
{
    found = (ready[0] != 0);
    if
    :: !found && LANES > 1 -> found = (ready[LANES - 1] != 0)
    :: else
    fi
}

// kernel_leaves_work, kernel_ring
inline ring_for_rest(found)
{
#ifndef BUG_LEAVE_WORK
    if
    :: sleepers ->
        found = (stale != 0);
        if
        :: !found -> look_ready(found)
        :: else
        fi;
        if
        :: found -> found = 0; bell(0)
        :: else
        fi
    :: else
    fi
#else
    skip
#endif
}

// kernel_remove
inline remove(who)
{
    waiting[who] = 0;
    sleepers--;
    if
    :: duty == who -> duty = 0
    :: else
    fi;
    stale = stale - stale_of[who];
    stale_of[who] = 0
}

// kernel_serve, iocp__lane_serve: orders are taken until there are none, then what arrived
inline serve(lane)
{
    do
    :: due[lane] ->
        if
        :: holder[lane] == 0 ->
            if
            :: atomic { holder[lane] == 0 -> holder[lane] = me };
                due[lane] = 0;
                do
                :: atomic { inbox[lane] -> requests[lane] = requests[lane] + inbox[lane];
                    inbox[lane] = 0 }
                :: atomic { !inbox[lane] -> sleeping[lane] = 1; break }
                od;
                atomic { found = arrived[lane]; arrived[lane] = 0 }
                atomic { ready[lane] = ready[lane] + found; found = 0 }
                holder[lane] = 0;
#ifdef BUG_NO_LOOK_AT_DUE
                break
#endif
            :: atomic { holder[lane] -> break }
            fi
        :: holder[lane] -> break
        fi
    :: !due[lane] -> break
    od
}

// iocp__gate_kernel_fetch without its awake: waits until `until`
inline fetch(until)
{
    atomic {
        kernel_stop_running(me);
        if
        :: QUEUED && allowed < LIMIT -> kernel_take(me)
        :: else ->
            if
            :: until == AT_ONCE -> allowed++; runs[me] = 1
            :: else -> waiters[waiter_count] = me; waiter_count++
            fi
        fi
    };
    if
    :: runs[me] -> skip
    :: atomic { !runs[me] && until == AT_TIMER && timer_due ->
        kernel_leave_wait(me); allowed++; runs[me] = 1 }
    :: atomic { !runs[me] && timed ->
        kernel_leave_wait(me); allowed++; runs[me] = 1; late = 1 }
    fi
}

// windows_fetch, after the system's call: what came is sorted, bells can be rung anew
inline sort_got()
{
    do
    :: got_bells[me] & 1 -> atomic { rung[0] = 0; got_bells[me] = got_bells[me] & 2; mask = mask | 1 }
    :: !(got_bells[me] & 1) && (got_bells[me] & 2) ->
        atomic { rung[LANES - 1] = 0; got_bells[me] = got_bells[me] & 1; mask = mask | 2 }
    :: !got_bells[me] && (got[me] & 3) -> atomic { arrived[0] = arrived[0] + (got[me] & 3); got[me] = got[me] & 12; mask = mask | 1 }
    :: !got_bells[me] && !(got[me] & 3) && (got[me] & 12) ->
        atomic { arrived[LANES - 1] = arrived[LANES - 1] + (got[me] >> 2); got[me] = got[me] & 3;
        mask = mask | 2 }
    :: got_bells[me] == 0 && got[me] == 0 -> break
    od
}

// the rest of iocp__gate_kernel_fetch
inline serve_named()
{
    if
    :: mask & 1 -> due[0] = 1; serve(0)
    :: else
    fi;
    if
    :: mask & 2 -> due[LANES - 1] = 1; serve(LANES - 1)
    :: else
    fi;
    mask = 0
}

// iocp__gate_kernel_join
inline join()
{
    atomic {
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
        wait_epoch[me] = my_epoch;
        wait_deadline[me] = until;
        waiting[me] = 1;
        sleepers++
    }
}

// iocp__gate_kernel_awake, kernel_release_passing
inline awake()
{
    atomic { remove(me); found = (stale == 0 && passing != 0) };
    do
    :: atomic { found && !stale && passing ->
        if
        :: passing & 1 -> parker[1] = 1; passing = passing & ~1
        :: !(passing & 1) && (passing & 2) -> parker[2 % (WORKERS + 1)] = 1; passing = passing & ~2
        :: !(passing & 3) && (passing & 4) -> parker[3 % (WORKERS + 1)] = 1; passing = passing & ~4
        fi }
    :: atomic { !found || stale || !passing -> found = 0; break }
    od
}

// iocp__gate_kernel_pass; `passed`: it returned 1
inline pass()
{
#ifdef BUG_NO_PASS
    skip
#else
    if
    :: stale == 0 -> skip
    :: stale ->
        atomic {
            if
            :: stale -> passing = passing | (1 << (me - 1)); passed = 1
            :: else
            fi
        };
        if
        :: passed ->
            bell(0);
            kernel_block(me);
            if
            :: parker[me] -> parker[me] = 0
            :: timed -> late = 1
            fi;
            kernel_unblock(me);
            passing = passing & ~(1 << (me - 1))
        :: else
        fi
    fi
#endif
}

/* ---- packet.c */

// packet_expire_timers
inline expire_timers()
{
    if
    :: atomic { timer_set && timer_due -> timer_set = 0 }; ready[0]++
    :: !(timer_set && timer_due) -> skip
    fi
}

// iocp__lane_take
inline take(lane, found)
{
    atomic {
        if
        :: ready[lane] -> ready[lane]--; found = 1
        :: else
        fi
    }
}

// packet_take_any: `turn` is any
inline take_any(found)
{
    if
    :: take(0, found);
        if
        :: !found && LANES > 1 -> take(LANES - 1, found)
        :: else
        fi
    :: LANES > 1 -> take(LANES - 1, found);
        if
        :: !found -> take(0, found)
        :: else
        fi
    fi
}

// port_ring from a handler: the bell is put off
inline handler_submits(lane)
{
    atomic { inbox[lane]++; found = sleeping[lane]; sleeping[lane] = 0 };
    if
    :: found -> owed[lane] = 1; owes = 1; found = 0
    :: else
    fi
}

// packet_handle
inline handle()
{
progress_handle:
    do
    :: atomic { orders_left -> orders_left-- };
        if
        :: handler_submits(0)
        :: LANES > 1 -> handler_submits(LANES - 1)
        fi
    :: atomic { blocks_left -> blocks_left--; blocked++ };
        // iocp_blocking_begin: what is owed is rung for; then the kernel sees that it blocks
        settle_owed();
        kernel_block(me);
        atomic { handled + blocked >= TOTAL -> blocked--; handled++ };
        kernel_unblock(me);
        break
    :: handled++; break
    od
}

// iocp__gate_settle_owed
inline settle_owed()
{
    if
    :: atomic { owed[0] -> owed[0] = 0 }; bell(0)
    :: !owed[0]
    fi;
    if
    :: atomic { LANES > 1 && owed[LANES - 1] -> owed[LANES - 1] = 0 }; bell(LANES - 1)
    :: LANES == 1 || !owed[LANES - 1]
    fi
}

// iocp__gate_kernel_serve_owed
inline serve_owed()
{
    if
    :: atomic { owed[0] -> owed[0] = 0 }; due[0] = 1; serve(0)
    :: !owed[0]
    fi;
    if
    :: atomic { LANES > 1 && owed[LANES - 1] -> owed[LANES - 1] = 0 };
        due[LANES - 1] = 1;
        serve(LANES - 1)
    :: LANES == 1 || !owed[LANES - 1]
    fi
#if !WATCH && !defined(BUG_SILENT_BATCH)
    ;
    ring_for_rest(found)
#endif
}

proctype worker(byte me; bit timed; bit poller)
{
    byte my_epoch;
    byte until;
    byte mask;
    byte found;
    byte calls = CALLS;
    bit looked;
    bit late; /* its time is over */
    bit on_duty;
    bit passed;
    bit owes;
    bit ticket; /* the last fetch gave it something */
call:
    if
    :: (timed || poller) && calls == 0 -> goto end
    :: (timed || poller) && calls -> calls--
    :: !timed && !poller
    fi;
    my_epoch = epoch;
    // iocp__gate_kernel_enter
    if
    :: phase[me] == BUSY -> running--
    :: else
    fi;
    phase[me] = INSIDE;
    looked = 0;
    late = 0;
    ticket = 0;
next: // packet_next
    if
    :: closed -> goto leave
    :: else
    fi;
    expire_timers();
    look_ready(found);
#ifdef BUG_TAKES_UNASKED
    ticket = 1;
#endif
    if
    :: found && ticket -> found = 0; take_any(found)
    :: else -> found = 0
    fi;
    if
    :: found -> found = 0; goto out
    :: else
    fi;
    if
    :: closed || epoch != my_epoch -> goto leave
    :: else
    fi;
    if
    :: looked && poller -> goto leave
    :: looked && timed -> goto leave
    :: !(looked && (poller || late))
    fi;
    looked = 1;
    // packet_fetch
    if
    :: poller ->
        look_ready(found);
        if
        :: found -> found = 0; bell(0)
        :: else
        fi;
        fetch(AT_ONCE)
    :: !poller ->
        pass();
        if
        :: passed -> passed = 0; goto next
        :: else
        fi;
        join();
#ifndef BUG_NO_LOOK_AGAIN
        if
        :: closed || epoch != my_epoch -> until = AT_ONCE
        :: else ->
            if
            :: on_duty && timer_set && until == NEVER -> until = AT_ONCE
            :: else ->
                look_ready(found);
                if
                :: found -> found = 0; bell(0)
                :: else
                fi
            fi
        fi;
#endif
        fetch(until)
    fi;
    until = NEVER;
    on_duty = 0;
    ticket = (got_bells[me] || got[me]);
    if
    :: poller && running < LIMIT -> ticket = 1
    :: else
    fi;
    sort_got();
    if
    :: !poller -> awake()
    :: else
    fi;
    serve_named();
    goto next;
out: // iocp__gate_kernel_exit, then the batch
    running++;
#ifdef STRICT_LIMIT
    assert(running <= LIMIT);
#endif
    phase[me] = BUSY;
    ring_for_rest(found);
    do
    :: handle();
        if
        :: take(0, found)
        :: LANES > 1 -> take(LANES - 1, found)
        :: skip /* the batch is full, or it was iocp_port_wait */
        fi;
        if
        :: found -> found = 0
        :: else -> break
        fi
    od;
    if
    :: owes -> owes = 0; serve_owed()
    :: else
    fi;
    if
    :: atomic { keeps_left -> keeps_left-- };
        handled + blocked >= TOTAL
    :: skip
    fi;
    goto call;
leave: // iocp__gate_kernel_leave
    if
    :: phase[me] == BUSY -> running--
    :: else
    fi;
    phase[me] = OUT;
    atomic { found = (sleepers && !duty && !running) };
    if
    :: found -> found = 0; bell(0)
    :: else -> ring_for_rest(found)
    fi;
    if
    :: closed -> goto end
    :: else -> goto call
    fi;
end:
    ended++;
#ifndef LEAVER_COMPUTES
    /* The thread ends, or it waits for something else. */
    atomic { kernel_stop_running(me); kernel_let_go(); my_epoch = 0 }
#endif
}

// iocp_port_post, iocp__gate_kernel_work
proctype poster()
{
    byte left = POSTS;
    do
    :: left ->
        left--;
#ifdef BUG_LOOK_FIRST
        bit anybody = (sleepers != 0);
        ready[0]++;
        if
        :: anybody -> bell(0)
        :: else
        fi
#else
        ready[0]++;
        if
        :: sleepers -> bell(0)
        :: else
        fi
#endif
    :: else -> break
    od
}

// iocp_port_submit of a thread that is no worker: its bell is not put off
proctype submitter()
{
    byte left = ORDERS;
    byte lane;
    bit ring;
    do
    :: left ->
        left--;
        if
        :: lane = 0
        :: lane = LANES - 1
        fi;
        atomic { inbox[lane]++; ring = sleeping[lane]; sleeping[lane] = 0 };
        if
        :: ring -> ring = 0; bell(lane)
        :: else
        fi
    :: else -> break
    od
}

/* The kernel finishes what it works on. */
active proctype device()
{
end:
    do
    :: atomic { requests[0] -> requests[0]--; completions[0]++; kernel_let_go() }
    :: atomic { LANES > 1 && requests[LANES - 1] -> requests[LANES - 1]--;
        completions[LANES - 1]++; kernel_let_go() }
    od
}

// iocp__gate_kernel_all
inline wake_all(all)
{
    atomic { now = epoch; }
    atomic {
        who = 1;
        do
        :: who <= WORKERS ->
            if
            :: waiting[who] && !stale_of[who] && (all || wait_epoch[who] != now) ->
                stale_of[who] = 1; stale++
            :: else
            fi;
            who++
        :: else -> break
        od;
        ring = (stale != 0); who = 0; now = 0
    };
    if
    :: ring -> ring = 0; bell(0)
    :: else
    fi
}

proctype waker()
{
    byte left = WAKES;
    byte now;
    byte who;
    bit ring;
    do
    :: left -> left--; epoch++; wake_all(0)
    :: else -> break
    od
}

// port_submit_timer, iocp__gate_kernel_timer; and time, which passes
proctype timer()
{
    bit late;
    timer_set = 1;
    if
    :: sleepers ->
        atomic {
            late = (sleepers && (!duty || wait_deadline[duty] > AT_TIMER));
            if
            :: late -> duty = 0
            :: else
            fi
        };
        if
        :: late -> bell(0)
        :: else
        fi
    :: else
    fi;
    timer_due = 1
}

// iocp__gate_kernel_tick
inline tick()
{
#ifdef BUG_NO_TICK
    skip
#else
    atomic { found = (timer_set && timer_due && sleepers && !duty) };
    if
    :: found -> found = 0; bell(0)
    :: else -> ring_for_rest(found)
    fi;
    settle_owed()
#endif
}

/* At any moment; the checker ticks when nothing else happens. */
proctype watch()
{
    byte left = TICKS;
    byte found;
    do
    :: left && running -> left--; tick()
    :: closed -> break
    od
}

/* When nothing more happens all must be done; then the port is closed, and all must come back. */
active proctype checker()
{
    byte now;
    byte who;
    byte found;
    bit ring;
    atomic {
        sleeping[0] = 1; sleeping[LANES - 1] = 1;
        who = 1;
        do
        :: who <= WORKERS ->
            run worker(who, who > PERMANENT && who <= PERMANENT + TIMED, who > PERMANENT + TIMED);
            who++
        :: else -> break
        od;
        who = 0;
        if :: POSTS -> run poster() :: else fi;
        if :: ORDERS -> run submitter() :: else fi;
        if :: WAKES -> run waker() :: else fi;
        if :: TIMERS -> run timer() :: else fi;
        if :: TICKS -> run watch() :: else fi
    };
    timeout ->
#if WATCH
    do
    :: running && handled != TOTAL ->
        now = handled;
        tick();
        timeout ->
        assert(handled != now)
    :: else -> now = 0; break
    od;
#endif
    skip;
    d_step {
        assert(handled == TOTAL);
        assert(ready[0] == 0 && ready[LANES - 1] == 0);
        assert(inbox[0] == 0 && inbox[LANES - 1] == 0);
        assert(stale == 0 && passing == 0);
        who = 1;
        do
        :: who <= WORKERS -> assert(!waiting[who] || wait_epoch[who] == epoch); who++
        :: else -> break
        od;
        who = 0
    };
    closed = 1;
    wake_all(1);
    timeout ->
    assert(ended == WORKERS)
}

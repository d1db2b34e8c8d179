/* Waits for signals in one run, on the graph  a -> w -> v : both wait for the same signal, each for a time. Two senders (of two
   signals, and of one of them again), two keepers that wake what is due, the worker that ends  a  and so opens  w , a client that
   cancels, an operator who retries.

   An atomic block is what one transaction does from its lock on the run to its commit, or what one statement reads before that.
   Whoever changes a wait holds the run, so a transaction is cut where another may come in between: right after the lock, or, in
   the mutants that take none, between what they read and what they write. Whether the run is being stopped is read with the lock,
   the rest after it; what a wait is opened from is asked again by the statement that does it. A keeper reads what is due without a lock, and passes
   by a run that is held.

   Safety:   spin -a waits.pml; cc -O2 -DCOLLAPSE -DSAFETY -o pan pan.c; ./pan -m1000000 -N safe
   Liveness: spin -a waits.pml; cc -O2 -DCOLLAPSE -DNFAIR=4 -o pan pan.c; ./pan -m1000000 -a -f -N ends
   Mutants:  spin -a -DOPEN_NO_LOCK waits.pml; spin.py says which property each must break. */

#ifndef CANCELS
#define CANCELS 1
#endif
#ifndef RETRIES   /* by the operator */
#define RETRIES 1
#endif

#define W 0
#define V 1
#define NOBODY 2

#define BLOCKED 0
#define WAITING 1
#define SUCCEEDED 2
#define FAILED 3
#define SKIPPED 4
#define CANCELLED 5

#define NONE 0    /* of a signal, by its id */
#define KEPT 1
#define TAKEN 2

/* ---- the rows ---- */
byte st[2];           /* of the waits */
bool late[2];         /* wake_at is past */
byte sig[2];
bool done = false;    /* a */
bool fallback;        /* w goes on without a signal when its time is over; else it fails */
bool halt = false, ended = false;
byte outcome = BLOCKED;

/* ---- the lock on the run row: a cancel and an operator take it FOR UPDATE, the others FOR NO KEY UPDATE; none goes with another ---- */
bool held = false;

byte cancels = 0, retries = 0;
/* ---- what the properties look at ---- */
byte takes[2];        /* how often a signal was taken */
bool over[2];         /* the time that this opening of a wait was given has passed */
bool second_end = false, early = false, taken_late = false;
#ifdef REACH          /* set when the model gets to what REACH is */
bool reached = false;
#define TOOK_KEPT 1
#define DUPLICATE 2
#define PASSED_BY 3
#define STALE_WAKE 4
#define ENDED_BY_SENDER 5
#define WENT_ON 6
#define CANCELLED_PARKED 7
#define PARKED_AGAIN 8
#define reach(what) if :: REACH == what -> reached = true :: else fi
#else
#define reach(what) skip
#endif

#define due(w)  (st[w] == WAITING && late[w])
#define open(w) (st[w] <= WAITING)

#ifdef TAKE_AGAIN     /* nobody asks whether it was consumed */
#define may_take(k) (sig[k] != NONE)
#else
#define may_take(k) (sig[k] == KEPT)
#endif

inline end_run(how) { ended = true; outcome = how }
#ifdef PARK_KEEPS_TIME
#define clear(w) skip
#else
#define clear(w) late[w] = false
#endif

inline end_wait(w, how) { second_end = second_end || !open(w); st[w] = how; clear(w) }
inline take(w, k) { takes[k]++; sig[k] = TAKEN; taken_late = taken_late || over[w]; end_wait(w, SUCCEEDED) }

/* Which of the signals that were kept a wait may take. */
inline look_for_kept(k) {
  if
  :: may_take(0) -> k = 0
  :: may_take(1) -> k = 1
  :: else -> k = NOBODY
  fi
}
/* A blocked wait opens: it takes a kept signal, or is parked. */
inline open_wait(w, k) {
  if
  :: st[w] != BLOCKED
  :: st[w] == BLOCKED && k != NOBODY -> over[w] = false; take(w, k); reach(TOOK_KEPT)
  :: else -> over[w] = false; st[w] = WAITING; clear(w);
     if :: retries > 0 -> reach(PARKED_AGAIN) :: else fi
  fi
}
/* What follows in the same transaction when a wait has ended. */
inline advance(w) {
  if
  :: st[w] == SUCCEEDED && w == W && st[V] == BLOCKED -> look_for_kept(k); open_wait(V, k); k = NOBODY;
     if
     :: st[V] == SUCCEEDED -> end_run(SUCCEEDED)
     :: else
     fi
  :: st[w] == SUCCEEDED && w == V -> end_run(SUCCEEDED)
  :: st[w] == FAILED ->
     if
     :: w == W && st[V] == BLOCKED -> st[V] = SKIPPED
     :: else
     fi; end_run(FAILED)
  :: else
  fi
}
inline time_out(w) {
  early = early || !over[w];
  if
  :: w == W && fallback -> end_wait(w, SUCCEEDED); reach(WENT_ON)
  :: else -> end_wait(w, FAILED)
  fi; advance(w)
}

/* The worker that ends  a . Its claim, its lease and its death are what ledger.pml is about. */
proctype Opener() { byte k = NOBODY; bool stopped = false;
#ifdef OPEN_NO_LOCK
  atomic { look_for_kept(k); stopped = halt }
  atomic {
#else
  atomic { !held -> held = true; stopped = halt }
  atomic { held = false; look_for_kept(k);
#endif
    done = true;
    if
    :: stopped -> end_run(CANCELLED)
    :: else -> open_wait(W, k);
       if
       :: st[W] == SUCCEEDED -> advance(W)
       :: else
       fi
    fi; k = NOBODY; stopped = false }
}

/* Which wait is open; none. */
inline look_for_wait(w) {
  if
  :: st[W] == WAITING -> w = W
  :: st[V] == WAITING -> w = V
  :: else -> w = NOBODY
  fi
}

/* Sends `first`, then `second`. What has an id that was used changes nothing. */
proctype Sender(byte first; byte second) { byte id = first, n = 0, w = NOBODY, k = NOBODY; bool known = false, refused = false;
again:
#ifdef DELIVER_NO_LOCK
  atomic { known = sig[id] != NONE; refused = ended || halt; look_for_wait(w) }
  atomic {
#else
  atomic { !held -> held = true; refused = ended || halt }
  atomic { held = false; known = sig[id] != NONE; look_for_wait(w);
#endif
    if
    :: known -> reach(DUPLICATE)
    :: !known && refused
    :: else ->
#ifndef DELIVER_LATE
       do                                                            /* those whose time is over are ended before */
       :: w != NOBODY && due(w) -> time_out(w); look_for_wait(w); reach(ENDED_BY_SENDER)
       :: else -> break
       od;
#endif
       if
       :: w != NOBODY -> take(w, id); advance(w)
       :: w == NOBODY && !ended && (open(W) || open(V)) -> sig[id] = KEPT
       :: else                                                       /* nothing may wait for it any more */
       fi
    fi; w = NOBODY; known = false; refused = false; n++;
    if
    :: n == 1 && second != NOBODY -> id = second; goto again
    :: else
    fi }
}

/* Reads what is due, then takes the run unless somebody holds it, and looks again. */
proctype Keeper() { byte w = NOBODY, k = NOBODY; bool stopped = false;
end_look:
#ifdef NO_WAKE
  false;
#endif
  atomic {
    if
    :: due(W) -> w = W
    :: due(V) -> w = V
    fi }
  atomic {
    if
    :: !held -> held = true; stopped = halt
    :: held -> reach(PASSED_BY);
#ifdef PASS_BY_FOR_GOOD
       false;
#endif
       w = NOBODY; goto end_look
    fi }
  atomic { held = false;
    if
#ifdef WAKE_NOT_ASKED_AGAIN
    :: !stopped && !ended -> time_out(w)
#else
    :: !stopped && due(w) -> time_out(w)
#endif
    :: else -> reach(STALE_WAKE)
    fi; w = NOBODY; stopped = false; goto end_look }
}

/* The database's clock. */
proctype Clock() {
end_tick: do
  :: atomic { st[W] == WAITING && !over[W] -> over[W] = true; late[W] = true }
  :: atomic { st[V] == WAITING && !over[V] -> over[V] = true; late[V] = true }
  od }

/* So that no history stops: a run that is stuck is then one that never ends. */
proctype Time() { bool tick = false; do :: atomic { tick = true; tick = false } od }

proctype Client() {
end_client: do
#ifdef CANCEL_NO_LOCK
  :: atomic { cancels < CANCELS && !ended -> cancels++;
#else
  :: atomic { cancels < CANCELS && !ended && !held -> held = true; cancels++ }
     atomic { held = false;
#endif
       if
       :: ended || halt
       :: else -> halt = true;
          if :: due(W) || due(V) || st[W] == WAITING || st[V] == WAITING -> reach(CANCELLED_PARKED) :: else fi;
#ifdef CANCEL_LEAVES_WAITS
          if :: st[W] == BLOCKED -> end_wait(W, CANCELLED) :: else fi;
          if :: st[V] == BLOCKED -> end_wait(V, CANCELLED) :: else fi;
#else
          if :: open(W) -> end_wait(W, CANCELLED) :: else fi;
          if :: open(V) -> end_wait(V, CANCELLED) :: else fi;
#endif
          if
          :: done -> end_run(CANCELLED)
          :: else                                                    /* with its last handler */
          fi
       fi }
  od }

/* Opens what did not succeed again: a new epoch. Kept signals stay. */
proctype Operator() { byte k = NOBODY;
end_operator: do
  :: atomic { retries < RETRIES && ended && outcome != SUCCEEDED && !held -> held = true; retries++ }
     atomic { held = false;
       if
       :: ended && outcome != SUCCEEDED ->
          halt = false; ended = false; outcome = BLOCKED;
          if :: st[V] != SUCCEEDED -> st[V] = BLOCKED :: else fi;
          if
          :: st[W] != SUCCEEDED -> st[W] = BLOCKED;
#ifdef RETRY_OPENS_NOTHING
             skip
#else
             look_for_kept(k); open_wait(W, k);
             if :: st[W] == SUCCEEDED -> advance(W) :: else fi
#endif
          :: else -> advance(W)
          fi; k = NOBODY
       :: else
       fi }
  od }

init { atomic {
  if :: fallback = true :: fallback = false fi;
  run Opener(); run Sender(0, 1); run Sender(0, NOBODY); run Keeper(); run Keeper(); run Clock(); run Client(); run Operator();
  run Time()
} }

#define one_end        (!second_end)
#define taken_once     (takes[0] <= 1 && takes[1] <= 1)
#define on_time        (!early)
#define before_it      (!taken_late)
#define nothing_parked (held || !(ended || halt) || st[W] != WAITING && st[V] != WAITING)
#define nothing_missed (held || !(sig[0] == KEPT || sig[1] == KEPT) || st[W] != WAITING && st[V] != WAITING)
#ifdef REACH
ltl unreached { [] !reached }
#else
ltl safe { [] (one_end && taken_once && on_time && before_it && nothing_parked && nothing_missed) }
ltl ends { <> [] ended }
ltl ends_waits_once { [] one_end }
ltl takes_once { [] taken_once }
ltl wakes_on_time { [] on_time }
ltl takes_before_it { [] before_it }
ltl parks_nothing_stopped { [] nothing_parked }
ltl misses_nothing { [] nothing_missed }
#endif

/* The ledger's protocol on the graph  a, b -> join : two workers, a broker that loses, doubles and reorders messages, a keeper,
   a client that cancels, an operator who retries.

   An atomic block is what one statement does at one moment. A transaction is cut where another may come in between: after
   the lock on the run (or after the snapshot, where a mutant takes no lock), and between a keeper's two transactions. Row
   locks on a claim or a step are taken in the block that commits: a statement that waited for one reads the newest row.

   Safety:   spin -a ledger.pml; cc -O2 -DCOLLAPSE -DSAFETY -o pan pan.c; ./pan -m1000000 -N safe
   Liveness: spin -a ledger.pml; cc -O2 -DCOLLAPSE -DNFAIR=4 -o pan pan.c; ./pan -m1000000 -a -f -N ends
   Mutants:  spin -a -DNO_FENCE ledger.pml; spin.py says which property each must break. */

#ifndef FAULTS    /* faults of one history, of any kinds: a message lost, doubled or put last, a crash, a pause past the lease, */
#define FAULTS 1  /* a release, a back-off */
#endif
#ifndef CANCELS
#define CANCELS 1
#endif
#ifndef RETRIES   /* by the operator */
#define RETRIES 1
#endif
#define fault (faults < FAULTS) -> faults++

#define STEPS 3
#define A 0
#define B 1
#define JOIN 2
#define LIST 3    /* messages the list holds; one more is lost like any other */
#define NOBODY 2

#define BLOCKED 0
#define READY 1
#define RUNNING 2
#define WAITING 3
#define SUCCEEDED 4
#define CANCELLED 5

/* ---- the rows ---- */
byte st[STEPS], number[STEPS], version[STEPS], owner[STEPS];
bool live[STEPS];     /* the claim's expires_at is not null ... */
bool fresh[STEPS];    /* ... and in the future */
bool orphan[STEPS];   /* its holder died: it cannot renew */
byte deps = 2;        /* of the join */
bool halt = false, ended = false, cancelled = false;

/* ---- locks on the run row ---- */
byte share = 0;       /* FOR KEY SHARE: claims, plain completions, releases, sweeps */
bool nku = false;     /* FOR NO KEY UPDATE: the general path, the last sink */
bool upd = false;     /* FOR UPDATE: cancel, operator */
#define share_free (!upd)
#define nku_free   (!upd && !nku)
#define upd_free   (!upd && !nku && share == 0)

/* ---- the broker: one list of (step, dispatch number) ---- */
chan list = [LIST] of { byte, byte };

byte faults = 0, cancels = 0, retries = 0;
/* ---- what the properties look at ---- */
byte commits[STEPS], fired = 0;
bool live_steal = false, late_start = false, late_result = false, foreign_dispatch = false, second_end = false;
#ifdef REACH          /* set when the model gets to what REACH is */
bool reached = false;
#define STALE 1
#define CHAINED 2
#define RETRIED 3
#define REVIVED 4
#define RESENT 5
#define SWEPT 6
#define HALTED_END 7
#define reach(what) if :: REACH == what -> reached = true :: else fi
#else
#define reach(what) skip
#endif

#define n_running   ((st[A] == RUNNING) + (st[B] == RUNNING) + (st[JOIN] == RUNNING))
#define n_ready     ((st[A] == READY) + (st[B] == READY) + (st[JOIN] == READY))
#define parents_open ((st[A] != SUCCEEDED) + (st[B] != SUCCEEDED))
#define is_open(s)  (st[s] < SUCCEEDED)

#ifdef NO_FENCE
#define holds(s, v, me) (st[s] == RUNNING)
#else
#ifdef FENCE_BY_OWNER /* both workers go by the name of their host, and no version is asked for */
#define holds(s, v, me) (live[s])
#else
#define holds(s, v, me) (live[s] && version[s] == v && owner[s] == me)
#endif
#endif

inline ready(s) { st[s] = READY; number[s]++ }
inline end_claim(s) { live[s] = false; fresh[s] = false; orphan[s] = false; owner[s] = NOBODY }
inline give_claim(s, me) {
  live_steal = live_steal || (live[s] && fresh[s]);
  late_start = late_start || halt;
  st[s] = RUNNING; version[s]++; owner[s] = me; live[s] = true; fresh[s] = true; orphan[s] = false
}
inline succeed(s, v, me) {
  late_result = late_result || !live[s] || version[s] != v || owner[s] != me;
  end_claim(s); st[s] = SUCCEEDED; commits[s]++
}
inline end_run(how) { second_end = second_end || ended; ended = true; cancelled = how }

/* After the commit: sent, or lost with the process that should have sent it. */
inline send(s) {
  if
  :: nfull(list) -> list!s,number[s]
  :: fault
  :: full(list)
  fi
}
inline cancel_step(s) {
  if
  :: st[s] == BLOCKED || st[s] == READY || st[s] == WAITING -> st[s] = CANCELLED
  :: else
  fi
}
inline rest() { s = 0; n = 0; v = 0; d = 0 }

proctype Worker(byte me) {
  byte s = 0, n = 0, v = 0, d = 0;
end_idle:
  atomic { list?s,n;
    if
    :: true
    :: fault -> rest(); goto end_idle                               /* popped, then died */
    fi }

  /* claim: the run FOR KEY SHARE, then the step and its claim */
#ifdef CLAIM_NO_LOCK
  atomic {
    if
    :: !halt && !ended
    :: else -> rest(); goto end_idle
    fi }
  atomic {
#else
  atomic { share_free ->
    if
    :: !halt && !ended -> share++
    :: else -> rest(); goto end_idle
    fi }
  atomic { share--;
#endif
    if
#ifdef CLAIM_RUNNING
    :: st[s] == READY || st[s] == RUNNING ->
#else
#ifdef ANY_NUMBER
    :: st[s] == READY ->
#else
    :: st[s] == READY && number[s] == n ->
#endif
#endif
       foreign_dispatch = foreign_dispatch || number[s] != n;
       give_claim(s, me); n = 0; v = version[s]
    :: else -> rest(); goto end_idle                                /* a duplicate, or stale */
    fi }

holding:                                                            /* the handler runs, and ... */
  if
  :: atomic { fault ->                                              /* its worker dies */
       if
       :: live[s] && version[s] == v && owner[s] == me -> orphan[s] = true
       :: else
       fi; rest(); goto end_idle }
  :: atomic { live[s] && version[s] == v && !fresh[s] ->            /* a renewal comes late, before the sweep */
       fresh[s] = true; reach(REVIVED); goto holding }
  :: atomic { share_free && faults < FAULTS ->                      /* given back: the run FOR KEY SHARE */
       faults++;
       if
#ifdef RELEASE_NO_HALT
       :: true -> share++; goto release
#else
       :: !halt -> share++; goto release
       :: else -> d = 1; goto general
#endif
       fi }
  :: atomic { fault -> goto back_off }                              /* it failed and may try again */
  :: atomic { s == JOIN && nku_free ->                              /* finish_sink: the run FOR NO KEY UPDATE */
       if
       :: !halt -> nku = true; goto sink
       :: else -> goto general
       fi }
  :: atomic { s != JOIN && share_free ->                            /* finish_mid: the run FOR KEY SHARE */
#ifdef JOIN_READ
       d = deps;
#endif
       if
       :: !halt -> share++
       :: else -> d = 0; goto general
       fi }
  fi;

  atomic { share--;                                                 /* own claim, own step, the successor's counter */
    if
    :: !holds(s, v, me) -> reach(STALE); rest(); goto end_idle
    :: holds(s, v, me) && st[JOIN] != BLOCKED -> d = 0; goto general /* refused: nothing was written */
    :: else ->
       succeed(s, v, me);
#ifdef JOIN_READ
       deps = d - 1; d = 0;
#else
       deps--;
#endif
       if
       :: deps > 0 -> rest(); goto end_idle
       :: deps == 0 -> fired++;                                     /* chained: claimed in the same commit */
          give_claim(JOIN, me); reach(CHAINED); s = JOIN; v = version[JOIN]; goto holding
       :: deps == 0 -> fired++; ready(JOIN); send(JOIN); rest(); goto end_idle
       fi
    fi }

sink:
  atomic { nku = false;
    if
    :: holds(s, v, me) -> succeed(s, v, me); end_run(false)
    :: else -> reach(STALE)
    fi; rest(); goto end_idle }

general:                                                            /* d: the attempt is cancelled, not finished */
#ifdef HALTED_NO_LOCK
  atomic { n = n_running }
#else
  atomic { nku_free -> nku = true; n = n_running }
#endif
  atomic {
#ifndef HALTED_NO_LOCK
    nku = false; n = n_running;
#endif
    if
    :: !holds(s, v, me) -> reach(STALE)
    :: else ->                                                      /* on this graph only a halted run leads here */
       if
       :: d -> end_claim(s); st[s] = CANCELLED
       :: else -> succeed(s, v, me)
       fi;
       if
       :: n == 1 -> end_run(true); reach(HALTED_END)
       :: else
       fi
    fi; rest(); goto end_idle }

release:                                                            /* by owner and version */
  atomic { share--;
    if
#ifdef UNFENCED_RELEASE
    :: st[s] == RUNNING ->
       live_steal = live_steal || (live[s] && fresh[s] && (owner[s] != me || version[s] != v));
#else
    :: holds(s, v, me) ->
#endif
       end_claim(s); ready(s); send(s)
    :: else
    fi; rest(); goto end_idle }

back_off:                                                           /* the general path */
  atomic { nku_free -> nku = true }
  atomic { nku = false;
    if
    :: !holds(s, v, me) -> reach(STALE)
    :: holds(s, v, me) && halt -> d = 1; goto general
    :: else -> end_claim(s); st[s] = WAITING
    fi; rest(); goto end_idle }
}

/* One transaction reads what has expired, the next writes and quotes the version that was read. */
proctype Sweeper() {
  byte s = 0, v = 0;
end_select:
  atomic {
#ifdef NO_RECLAIM
    false;
#endif
    if
    :: live[A] && !fresh[A] -> s = A
    :: live[B] && !fresh[B] -> s = B
    :: live[JOIN] && !fresh[JOIN] -> s = JOIN
    fi;
    v = version[s];
    if
    :: halt -> goto end_it
    :: else
    fi }
  atomic { share_free ->
    if
#ifdef SWEEP_NO_HALT
    :: true -> share++
#else
    :: !halt -> share++
    :: else -> s = 0; v = 0; goto end_select
#endif
    fi }
  atomic { share--;
    if
#ifdef SWEEP_NO_VERSION
    :: st[s] == RUNNING ->
#else
#ifdef SWEEP_NOT_ASKED_AGAIN
    :: live[s] && version[s] == v ->
#else
    :: live[s] && version[s] == v && !fresh[s] ->
#endif
#endif
       live_steal = live_steal || (live[s] && fresh[s]);
       end_claim(s); ready(s); send(s); reach(SWEPT)
    :: else
    fi; s = 0; v = 0; goto end_select }
end_it:
  atomic { nku_free -> nku = true }
  atomic { nku = false;
    if
    :: live[s] && version[s] == v && !fresh[s] && halt ->
       end_claim(s); st[s] = CANCELLED;
       if
       :: n_running == 0 -> end_run(true)
       :: else
       fi
    :: else
    fi; s = 0; v = 0; goto end_select }
}

/* Reads the list's length first, then counts the ready steps, and sends at most the difference. Which is the oldest is open. */
proctype Redispatcher() {
  byte had = 0;
end_look:
#ifdef NO_REDISPATCH
  false;
#endif
  atomic { n_ready > 0 && nfull(list) -> had = len(list) }
  atomic {
    if
    :: n_ready > had ->
       if
       :: st[A] == READY && nfull(list) -> list!A,number[A]
       :: st[B] == READY && nfull(list) -> list!B,number[B]
       :: st[JOIN] == READY && nfull(list) -> list!JOIN,number[JOIN]
       :: full(list)
       fi; reach(RESENT)
    :: else
    fi; had = 0; goto end_look }
}

/* The database's clock and the timers. */
proctype Clock() {
end_tick: do
  :: atomic { fresh[A] && orphan[A] -> fresh[A] = false }
  :: atomic { fresh[B] && orphan[B] -> fresh[B] = false }
  :: atomic { fresh[JOIN] && orphan[JOIN] -> fresh[JOIN] = false }
  :: atomic { fresh[A] && !orphan[A] && faults < FAULTS -> faults++; fresh[A] = false }
  :: atomic { fresh[B] && !orphan[B] && faults < FAULTS -> faults++; fresh[B] = false }
  :: atomic { fresh[JOIN] && !orphan[JOIN] && faults < FAULTS -> faults++; fresh[JOIN] = false }
#ifndef NO_TIMER
  :: atomic { st[A] == WAITING -> ready(A); send(A) }
  :: atomic { st[B] == WAITING -> ready(B); send(B) }
  :: atomic { st[JOIN] == WAITING -> ready(JOIN); send(JOIN) }
#endif
  od }

proctype Broker() { byte s = 0, n = 0;
end_broker: do
  :: atomic { nempty(list) && faults < FAULTS -> faults++; list?s,n; s = 0; n = 0 }
  :: atomic { nempty(list) && nfull(list) && faults < FAULTS -> faults++; list?s,n; list!s,n; list!s,n; s = 0; n = 0 }
  :: atomic { len(list) > 1 && faults < FAULTS -> faults++; list?s,n; list!s,n; s = 0; n = 0 }
  od }

/* So that no history stops: a run that is stuck is then one that never ends. */
proctype Time() { bool tick = false; do :: atomic { tick = true; tick = false } od }

/* A cancel takes the run FOR UPDATE, and so waits for claims under way. */
proctype Client() {
end_client: do
  :: atomic { cancels < CANCELS && !ended &&
#ifdef CANCEL_WEAK
       nku_free -> nku = true; cancels++ }
     atomic { nku = false;
#else
       upd_free -> upd = true; cancels++ }
     atomic { upd = false;
#endif
       if
       :: ended || halt
       :: else -> halt = true; cancel_step(A); cancel_step(B); cancel_step(JOIN);
          if
          :: n_running == 0 -> end_run(true)
          :: else
          fi
       fi }
  od }

/* Runs cancelled steps again: a new epoch. What succeeded stays. */
proctype Operator() {
end_operator: do
  :: atomic { retries < RETRIES && ended && cancelled && upd_free -> upd = true; retries++ }
     atomic { upd = false;
       if
       :: st[A] == CANCELLED || st[B] == CANCELLED || st[JOIN] == CANCELLED ->
          halt = false; ended = false; cancelled = false; reach(RETRIED);
          if
          :: st[JOIN] == CANCELLED -> fired = 0; deps = parents_open;
             if
             :: deps == 0 -> fired++; ready(JOIN); send(JOIN)
             :: else -> st[JOIN] = BLOCKED
             fi
          :: else
          fi;
          if
          :: st[A] == CANCELLED -> ready(A); send(A)
          :: else
          fi;
          if
          :: st[B] == CANCELLED -> ready(B); send(B)
          :: else
          fi
       :: else                                                      /* refused: nothing was cancelled */
       fi }
  od }

init { atomic {
  owner[A] = NOBODY; owner[B] = NOBODY; owner[JOIN] = NOBODY;
  ready(A); send(A); ready(B); send(B);
  run Worker(0); run Worker(1); run Sweeper(); run Redispatcher(); run Clock(); run Broker(); run Client(); run Operator();
  run Time()
} }

#define one_commit     (commits[A] <= 1 && commits[B] <= 1 && commits[JOIN] <= 1)
#define no_live_steal  (!live_steal)
#define no_late_start  (!late_start)
#define no_late_result (!late_result)
#define own_dispatch   (!foreign_dispatch)
#define join_once      (fired <= 1)
#define join_in_order  (st[JOIN] != RUNNING || parents_open == 0)
#define counter_right  (st[JOIN] != BLOCKED || deps == parents_open)
#define one_end        (!second_end)
#define nothing_open   (!ended || !is_open(A) && !is_open(B) && !is_open(JOIN))
#ifdef REACH
ltl unreached { [] !reached }
#else
ltl safe { [] (one_commit && no_live_steal && no_late_start && no_late_result && own_dispatch && join_once && join_in_order && counter_right
               && one_end && nothing_open) }
ltl ends { <> [] ended }
ltl commits_once { [] one_commit }
ltl steals_nothing { [] no_live_steal }
ltl starts_nothing_late { [] no_late_start }
ltl takes_no_late_result { [] no_late_result }
ltl takes_its_own { [] own_dispatch }
ltl joins_once { [] join_once }
ltl joins_in_order { [] join_in_order }
ltl counts_right { [] counter_right }
ltl ends_once { [] one_end }
ltl leaves_nothing { [] nothing_open }
#endif

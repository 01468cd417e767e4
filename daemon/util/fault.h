/*
 * Fault injection for the worker: the tests that kill it "in the middle of decode" need the middle of decode to be a
 * place with a name. Set SDD_FAULT="POINT[@N]:ACTION", e.g. "send:kill" or "steps@7:stop": the N-th pass (default
 * every pass) of POINT does ACTION: `kill` (SIGKILL), `stop` (SIGSTOP), `abort`, `hang` (this thread never goes on). Without the variable a point costs one
 * compare. Only sdd-worker reads it: who can set the worker's environment can kill it anyway.
 */
#pragma once

/* Returns 0, or -EINVAL for a text that is not as above; NULL and "" switch injection off. */
int sdd_fault_configure(const char *specification);

/* Pass the point of this name. Called from any thread. */
void sdd_fault_point(const char *point);

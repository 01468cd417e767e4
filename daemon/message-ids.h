/*
 * MESSAGE_ID= of the events that an administrator may have to act on; packaging/sdd.catalog says what to do about each,
 * and `journalctl -x` shows it. An id never changes its meaning.
 */
#pragma once

/* the worker died, hung or spoke nonsense */
#define SDD_MESSAGE_WORKER_LOST "00c9c6878cb84ebf85456be490f935f7"
/* a model could not be loaded */
#define SDD_MESSAGE_MODEL_REFUSED "35c39953d66d4deaa9b149fc6f18be24"
/* a user who may not connect */
#define SDD_MESSAGE_CLIENT_REFUSED "2e646de24bc545858f2e8aee2ca38f86"
/* a client broke the rules or does not read */
#define SDD_MESSAGE_CLIENT_CUT_OFF "ead734e3d6734f91aaf57edfb3e14252"
/* a detached job's result nobody fetched */
#define SDD_MESSAGE_RESULT_DROPPED "41b01dfa75b3458dabd3896ca5403175"

/*
 * Who may use how much. A meter is one limit (jobs of one user, connections in all); a charge is a piece of it and
 * lives inside the object it pays for, so that freeing the object is the refund. A user's meters live as long as
 * anything of that user does.
 */
#pragma once

#include "daemon/util/list.h"

#include <stdint.h>
#include <sys/types.h>

/* Positive: the caller answers with the matching error and goes on. */
enum {
	SDD_QUOTA_E_EXCEEDED = 1,
};

struct sdd_meter {
	uint64_t used, limit;
};

struct sdd_charge {
	struct sdd_meter *meter; /* NULL = nothing charged */
	uint64_t amount;
};

/* Take amount from the meter into an empty charge. 0 or SDD_QUOTA_E_EXCEEDED. */
int sdd_charge_take(struct sdd_charge *charge, struct sdd_meter *meter, uint64_t amount);
/* Give back what the charge holds, if anything. */
void sdd_charge_refund(struct sdd_charge *charge);

struct sdd_users {
	struct sdd_list users;
	uint64_t max_connections, max_jobs; /* one user */
};

/* One uid with something alive in the daemon. */
struct sdd_user {
	unsigned int n_refs;
	uid_t uid;
	struct sdd_list link;
	struct sdd_meter connections, jobs;
};

void sdd_users_init(struct sdd_users *users, uint64_t max_connections, uint64_t max_jobs);
/* The user with this uid, with one more reference. 0 or -ENOMEM. */
int sdd_users_get(struct sdd_users *users, uid_t uid, struct sdd_user **ret_user);
struct sdd_user *sdd_user_ref(struct sdd_user *user);
struct sdd_user *sdd_user_unref(struct sdd_user *user);

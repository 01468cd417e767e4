/*
 * Meters and charges; see quota.h.
 */
#include "daemon/quota.h"

#include <errno.h>
#include <stdlib.h>

int sdd_charge_take(struct sdd_charge *charge, struct sdd_meter *meter, uint64_t amount)
{
	if (amount > meter->limit || meter->used > meter->limit - amount)
		return SDD_QUOTA_E_EXCEEDED;
	meter->used += amount;
	charge->meter = meter;
	charge->amount = amount;
	return 0;
}

void sdd_charge_refund(struct sdd_charge *charge)
{
	if (charge->meter)
		charge->meter->used -= charge->amount;
	*charge = (struct sdd_charge){0};
}

void sdd_users_init(struct sdd_users *users, uint64_t max_connections, uint64_t max_jobs)
{
	sdd_list_init(&users->users);
	users->max_connections = max_connections;
	users->max_jobs = max_jobs;
}

int sdd_users_get(struct sdd_users *users, uid_t uid, struct sdd_user **ret_user)
{
	struct sdd_user *user;

	sdd_list_for_each (user, &users->users, link) {
		if (user->uid == uid) {
			*ret_user = sdd_user_ref(user);
			return 0;
		}
	}
	user = calloc(1, sizeof(*user));
	if (!user)
		return -ENOMEM;
	user->n_refs = 1;
	user->uid = uid;
	user->connections.limit = users->max_connections;
	user->jobs.limit = users->max_jobs;
	sdd_list_append(&users->users, &user->link);
	*ret_user = user;
	return 0;
}

struct sdd_user *sdd_user_ref(struct sdd_user *user)
{
	user->n_refs++;
	return user;
}

struct sdd_user *sdd_user_unref(struct sdd_user *user)
{
	if (!user || --user->n_refs > 0)
		return NULL;
	sdd_list_remove(&user->link);
	free(user);
	return NULL;
}

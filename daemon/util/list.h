/*
 * Intrusive doubly linked list, circular with a head. A link that is in no list points at itself, so that unlinking
 * twice is harmless and "is it in a list" can be asked of the object alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sdd_list {
	struct sdd_list *next, *previous;
};

#define SDD_LIST_INIT(_name) ((struct sdd_list){&(_name), &(_name)})

static inline void sdd_list_init(struct sdd_list *list)
{
	list->next = list->previous = list;
}

static inline bool sdd_list_is_empty(const struct sdd_list *list)
{
	return list->next == list;
}

/* Whether the object holding this link is in some list. */
static inline bool sdd_list_is_linked(const struct sdd_list *link)
{
	return link->next != link;
}

static inline void sdd_list_insert_between(struct sdd_list *link, struct sdd_list *previous,
					   struct sdd_list *next)
{
	link->previous = previous;
	link->next = next;
	previous->next = link;
	next->previous = link;
}

static inline void sdd_list_append(struct sdd_list *list, struct sdd_list *link)
{
	sdd_list_insert_between(link, list->previous, list);
}

static inline void sdd_list_prepend(struct sdd_list *list, struct sdd_list *link)
{
	sdd_list_insert_between(link, list, list->next);
}

static inline void sdd_list_remove(struct sdd_list *link)
{
	link->previous->next = link->next;
	link->next->previous = link->previous;
	sdd_list_init(link);
}

#define sdd_container_of(_link, _type, _member)                                                    \
	((_type *)((char *)(_link)-offsetof(_type, _member)))

/* First object of the list or NULL. */
#define sdd_list_first(_list, _type, _member)                                                      \
	(sdd_list_is_empty(_list) ? NULL : sdd_container_of((_list)->next, _type, _member))

#define sdd_list_for_each(_object, _list, _member)                                                 \
	for ((_object) = sdd_container_of((_list)->next, __typeof__(*(_object)), _member);         \
	     &(_object)->_member != (_list);                                                       \
	     (_object) =                                                                           \
		     sdd_container_of((_object)->_member.next, __typeof__(*(_object)), _member))

/* The current object may be removed and freed; no other one may. */
#define sdd_list_for_each_safe(_object, _following, _list, _member)                                \
	for ((_object) = sdd_container_of((_list)->next, __typeof__(*(_object)), _member),         \
	    (_following) =                                                                         \
		     sdd_container_of((_object)->_member.next, __typeof__(*(_object)), _member);   \
	     &(_object)->_member != (_list); (_object) = (_following),                             \
	    (_following) = sdd_container_of((_object)->_member.next, __typeof__(*(_object)),       \
					    _member))

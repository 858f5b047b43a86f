// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Pairs
 *
 * A pair stands for one importer, one exporter and one process (mm).  It keeps whether the
 * importer reaches the exporter's memory, and counts what the importer does with it.  An
 * attachment joins one mirror (peer) to a pair.
 *
 * A peer and an exporter meet once, outside the page walk.  From then on the walk
 * finds the pair in the peer under the exporter's id.  A pair begins when the first mirror
 * of an importer in a process meets the exporter, and ends with the last.  Both take
 * hmm_p2p_pairs_lock, which all processes share.  The mirrors in between, which may come and
 * go by the thousand, do not: they find the pair in a hash table under RCU.
 *
 *	another mirror meets the exporter	the last mirror of the pair is destroyed
 *
 *	rcu_read_lock()
 *	  finds the pair
 *						users 1 -> 0, under hmm_p2p_pairs_lock
 *	  users is 0: refcount_inc_not_zero()
 *	    refuses, and the pair stays over
 *	rcu_read_unlock()
 *	waits for hmm_p2p_pairs_lock		takes the pair out of table and list
 *						unlocks; memory goes after RCU
 *	looks again, and begins a new pair
 *
 * A mirror also gets the memory that it needs for aliases at its first meeting.  Before, its
 * map remembers nothing.
 *
 *	a fault meets the exporter		another fault of the same mirror
 *
 *	map->peer = the map's memory
 *	peer->pairs has the pair
 *						finds the pair: smp_rmb(), alias
 *						takes the importer's lock
 *						hmm_p2p_map_get() finds map->peer
 *
 * An invalidation that finds map->peer empty has nothing to let go of: both it and
 * hmm_p2p_map_get() hold the importer's lock, so it would see map->peer.
 *
 * A pair takes at most 4 KiB of memory, whatever the number of CPUs.  Its hot counters are in up
 * to 32 cache lines, chosen by CPU: with more CPUs some share a line.  Its other counters are
 * there once.
 */
#include <kunit/static_stub.h>
#include <kunit/visibility.h>
#include <linux/cleanup.h>
#include <linux/dma-map-ops.h>
#include <linux/hash.h>
#include <linux/hashtable.h>
#include <linux/init.h>
#include <linux/iommu-dma.h>
#include <linux/jiffies.h>
#include <linux/log2.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <trace/events/hmm_p2p.h>

#include "internal.h"

/*
 * Protects importers and pairs.  No task allocates memory under it: reclaim calls the callbacks
 * of importers, and a callback that does not return would block all users of the lock.
 */
struct mutex hmm_p2p_pairs_lock = __MUTEX_INITIALIZER(hmm_p2p_pairs_lock);
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_pairs_lock);

/* hmm_p2p_pairs_lock to change, RCU to read. */
static DEFINE_HASHTABLE(pair_table, 8);

/* How long a peer waits before it tries again to get memory for a pair. */
#define MEET_AGAIN	(HZ / 10)

static unsigned long pair_key(const struct hmm_p2p_exporter *exp, const struct mm_struct *mm)
{
	return hash_ptr(mm, BITS_PER_LONG) + exp->id;
}

/* The sum over all CPUs; 0 if pairs do not have that counter. */
u64 hmm_p2p_pair_read(struct hmm_p2p_pair *pair, unsigned int counter)
{
	u64 sum = 0;
	unsigned int i;

	if (counter >= HMM_P2P_C_FALLBACK)
		return atomic64_read(hmm_p2p_pair_counter(pair, counter, 0));
	for (i = 0; i < pair->nr_hot && counter < HMM_P2P_C_NR_HOT; i++)
		sum += atomic64_read(hmm_p2p_pair_counter(pair, counter, i));
	return sum;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_pair_read);

/* The exporter's total: its own counters, with those of ended pairs, and all pairs. */
u64 hmm_p2p_total_read(struct hmm_p2p_exporter *exp, unsigned int counter)
{
	struct hmm_p2p_pair *pair;
	u64 sum;

	mutex_lock(&hmm_p2p_pairs_lock);
	sum = hmm_p2p_sum(exp->counters, counter);
	list_for_each_entry(pair, &exp->pairs, node)
		sum += hmm_p2p_pair_read(pair, counter);
	mutex_unlock(&hmm_p2p_pairs_lock);
	return sum;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_total_read);

/* Visible so that tests can make it fail, and ask for a pair of a larger machine. */
VISIBLE_IF_KUNIT struct hmm_p2p_pair *hmm_p2p_pair_alloc(unsigned int nr_cpus)
{
	unsigned int nr_hot = min(roundup_pow_of_two(nr_cpus), HMM_P2P_MAX_HOT);
	struct hmm_p2p_pair *pair;

	KUNIT_STATIC_STUB_REDIRECT(hmm_p2p_pair_alloc, nr_cpus);
	pair = kzalloc_flex(*pair, hot, nr_hot, GFP_KERNEL_ACCOUNT);
	if (!pair)
		return NULL;
	pair->nr_hot = nr_hot;
	refcount_set(&pair->users, 1);
	mutex_init(&pair->lock);
	INIT_LIST_HEAD(&pair->attachments);
	return pair;
}
EXPORT_SYMBOL_IF_KUNIT(hmm_p2p_pair_alloc);

/*
 * The pair of this importer, exporter and process, if there is one, with a reference.  The
 * fields that are compared are constant, and RCU keeps them.  The mm exists, since the caller
 * faults in it, and each pair keeps its own: so equal addresses are the same mm.
 */
static struct hmm_p2p_pair *pair_find_get(struct hmm_p2p_peer *peer,
					  struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_pair *pair;

	guard(rcu)();
	hash_for_each_possible_rcu(pair_table, pair, hash, pair_key(exp, peer->mm))
		if (pair->exp == exp && pair->mm == peer->mm &&
		    hmm_p2p_is_mirror_of(peer, pair->importer) &&
		    refcount_inc_not_zero(&pair->users))
			return pair;
	return NULL;
}

static void pair_put(struct hmm_p2p_pair *pair)
{
	struct hmm_p2p_exporter *exp = pair->exp;
	unsigned int i;

	if (!refcount_dec_and_mutex_lock(&pair->users, &hmm_p2p_pairs_lock))
		return;
	hash_del_rcu(&pair->hash);
	list_del(&pair->node);
	/* The exporter's totals never go back. */
	for (i = 0; i < HMM_P2P_NR_COUNTERS; i++)
		hmm_p2p_count(exp, i, hmm_p2p_pair_read(pair, i));
	hmm_p2p_importer_put(pair->importer);
	mutex_unlock(&hmm_p2p_pairs_lock);
	mmdrop(pair->mm);
	kfree_rcu(pair, rcu);
	hmm_p2p_exporter_put(exp);
}

static void pair_begin(struct hmm_p2p_pair *pair, struct hmm_p2p_peer *peer,
		       struct hmm_p2p_exporter *exp, struct hmm_p2p_importer *importer)
{
	lockdep_assert_held(&hmm_p2p_pairs_lock);
	kref_get(&exp->kref);
	mmgrab(peer->mm);
	if (!importer->users++)
		list_add_tail(&importer->node, &hmm_p2p_importers);
	pair->exp = exp;
	pair->importer = importer;
	pair->mm = peer->mm;
	pair->pid = peer->pid;
	list_add_tail(&pair->node, &exp->pairs);
	hash_add_rcu(pair_table, &pair->hash, pair_key(exp, peer->mm));
}

/* The first mirror of the importer in this process meets @exp; others may do so beside it. */
static struct hmm_p2p_pair *pair_first_meeting(struct hmm_p2p_peer *peer,
					       struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_importer *importer, *new_importer = NULL;
	struct hmm_p2p_pair *pair, *new;

	new = hmm_p2p_pair_alloc(nr_cpu_ids);
	if (!new)
		return NULL;
	/* Software needs a mapping for the CPU, which depends on the window. */
	new->reason = HMM_P2P_REACHABLE;
	new->type = PCI_P2PDMA_MAP_UNKNOWN;
	if (peer->dev)
		new->reason = hmm_p2p_check_reach(exp, peer->dev, &new->type);
	new->translated = new->type == PCI_P2PDMA_MAP_THRU_HOST_BRIDGE &&
			  use_dma_iommu(peer->dev);
	if (!READ_ONCE(peer->importer)) {
		new_importer = hmm_p2p_importer_alloc(peer);
		if (!new_importer) {
			kfree(new);
			return NULL;
		}
	}

	mutex_lock(&hmm_p2p_pairs_lock);
	pair = pair_find_get(peer, exp);
	if (!pair) {
		/* A mirror that has an importer keeps it, so it is found. */
		importer = hmm_p2p_importer_find(peer);
		if (!importer)
			swap(importer, new_importer);
		pair_begin(new, peer, exp, importer);
		swap(pair, new);
	}
	mutex_unlock(&hmm_p2p_pairs_lock);
	kfree(new_importer);
	kfree(new);
	return pair;
}

/*
 * Attach a mirror to a pair.  @pair and @attachment are consumed.  Another fault of this mirror
 * may have been faster.
 */
static void pair_join_peer(struct hmm_p2p_peer *peer, struct hmm_p2p_pair *pair,
			   struct hmm_p2p_attachment *attachment)
{
	u64 id = pair->exp->id;
	bool met;

	attachment->peer = peer;
	attachment->pair = pair;
	mutex_lock(&pair->lock);
	/* The other fault has the same pair, and so the same lock. */
	met = xa_load(&peer->pairs, id);
	if (!met) {
		/* The slot is reserved.  Pairs with smp_rmb() in cursor_pair(). */
		xa_store(&peer->pairs, id, attachment, GFP_NOWAIT);
		/* A fault on another exporter, whose pair has another lock, may set it, too. */
		if (!cmpxchg(&peer->importer, NULL, pair->importer))
			atomic_inc(&pair->importer->mirrors);
		list_add_tail(&attachment->node, &pair->attachments);
	}
	mutex_unlock(&pair->lock);
	if (met) {
		kfree(attachment);
		pair_put(pair);
	}
}

/* What a mirror needs to meet @exp, besides a pair. */
static struct hmm_p2p_attachment *pair_prepare_peer(struct hmm_p2p_peer *peer,
						    struct hmm_p2p_exporter *exp)
{
	if (hmm_p2p_map_alloc(peer) || xa_reserve(&peer->pairs, exp->id, GFP_KERNEL))
		return NULL;
	return kzalloc_obj(struct hmm_p2p_attachment, GFP_KERNEL_ACCOUNT);
}

/*
 * hmm_p2p_pair_join - attach a mirror to the pair that its process has with an exporter
 * @peer: the mirror
 * @exp: the exporter; its provider is not needed
 *
 * Takes no lock that processes share.
 *
 * Context: May sleep; no mmap_lock.
 *
 * Return: false if there is no such pair, or no memory.
 */
bool hmm_p2p_pair_join(struct hmm_p2p_peer *peer, struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_attachment *attachment;
	struct hmm_p2p_pair *pair;

	pair = pair_find_get(peer, exp);
	if (!pair)
		return false;
	attachment = pair_prepare_peer(peer, exp);
	if (!attachment) {
		pair_put(pair);
		return false;
	}
	trace_hmm_p2p_reach(exp->desc.name, pair->importer->name, pair->reason);
	pair_join_peer(peer, pair, attachment);
	return true;
}

/*
 * hmm_p2p_pair_create - attach a mirror to a new pair, for which p2pdma is asked
 * @peer: the mirror
 * @exp: does not get past draining meanwhile, so its provider is there
 *
 * Without memory for a pair the peer gets no aliases for a while, %HMM_P2P_NO_PAIR, and its
 * faults bring pages to RAM: what works without hmm_p2p does not fail because of it.  There is
 * no pair that could note the time, so the peer does.  That also delays its meeting with other
 * exporters.
 *
 * Context: May sleep; no mmap_lock, on which other tasks would wait for the allocation.
 */
void hmm_p2p_pair_create(struct hmm_p2p_peer *peer, struct hmm_p2p_exporter *exp)
{
	struct hmm_p2p_attachment *attachment = pair_prepare_peer(peer, exp);
	struct hmm_p2p_pair *pair = NULL;

	if (attachment)
		pair = pair_first_meeting(peer, exp);
	if (!pair) {
		kfree(attachment);
		WRITE_ONCE(peer->meet_after, jiffies + MEET_AGAIN);
		return;
	}
	trace_hmm_p2p_reach(exp->desc.name, pair->importer->name, pair->reason);
	pair_join_peer(peer, pair, attachment);
}

/* Detach a mirror, which is being destroyed. */
void hmm_p2p_pair_leave(struct hmm_p2p_attachment *attachment)
{
	struct hmm_p2p_pair *pair = attachment->pair;

	mutex_lock(&pair->lock);
	list_del(&attachment->node);
	mutex_unlock(&pair->lock);
	kfree(attachment);
	pair_put(pair);
}

/*
 * The watchdog has named a callback by its function.  Name the importers that have memory of
 * @exp mapped in @mm, too: one of them may have that callback.
 */
void hmm_p2p_report_holders(struct hmm_p2p_exporter *exp, struct mm_struct *mm)
{
	struct hmm_p2p_pair *pair;

	mutex_lock(&hmm_p2p_pairs_lock);
	list_for_each_entry(pair, &exp->pairs, node) {
		u64 held = hmm_p2p_pair_held(pair);

		if (held && pair->mm == mm)
			pr_err("hmm_p2p: %s:   %s, for process %d: %llu pages\n",
			       exp->desc.name, pair->importer->name, pair->pid, held);
	}
	mutex_unlock(&hmm_p2p_pairs_lock);
}

static int __init hmm_p2p_pairs_init(void)
{
	struct hmm_p2p_pair *pair;

	/* Teach lockdep the order that it would see only if memory was short. */
	if (!IS_ENABLED(CONFIG_LOCKDEP))
		return 0;
	pair = hmm_p2p_pair_alloc(1);
	if (!pair)
		return -ENOMEM;
	fs_reclaim_acquire(GFP_KERNEL);
	mutex_lock(&hmm_p2p_pairs_lock);
	mutex_lock(&pair->lock);
	mutex_unlock(&pair->lock);
	mutex_unlock(&hmm_p2p_pairs_lock);
	fs_reclaim_release(GFP_KERNEL);
	kfree(pair);
	return 0;
}
subsys_initcall(hmm_p2p_pairs_init);

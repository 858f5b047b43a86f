// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: Where in RAM
 *
 * This file decides which RAM a page gets when it leaves its device.
 *
 *	owner	a process that maps the page
 *	mover	the task that migrates it
 *
 * If the owner is the mover, by a CPU fault or a request of its own, it allocates as for
 * any anonymous page: by the policy of the VMA, its own policy, its own cpuset.
 *
 * Any other mover has a policy and a cpuset that have nothing to do with the page.  It is a
 * process that needs room on the device, the administrator who unbinds the device, or a
 * thread that faults for a NIC.  The page then goes to the node that is nearest to the
 * device, among those that the owner may use:
 *
 * - The cpuset that belongs to the memory cgroup of the page says which nodes these are.
 *   Demotion (mm/vmscan.c) uses the same function, which needs cgroup v2.
 * - The policy of the VMA prefers some of them, and MPOL_BIND allows no others.  Eviction
 *   knows no VMA; demotion does not look for one either.
 *
 * The nodes of the mover's cpuset are neither preferred nor a limit.
 */
#include <linux/gfp.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/numa.h>
#include <linux/sched.h>

#include "internal.h"

static bool owner_is_mover(const struct vm_area_struct *vma)
{
	return vma && vma->vm_mm == current->mm && !(current->flags & PF_KTHREAD);
}

#ifdef CONFIG_NUMA
/*
 * The node that is nearest to @node among those that the policy of the VMA names, or @node if
 * the VMA has no policy.  Removes from @nodes what the policy forbids.  Under mmap_lock.
 */
static int place_by_policy(struct vm_area_struct *vma, unsigned long addr, int node,
			   nodemask_t *nodes)
{
	struct mempolicy *policy;
	nodemask_t named;
	pgoff_t ilx;

	policy = __get_vma_policy(vma, addr, &ilx);
	if (policy) {
		nodes_and(named, *nodes, policy->nodes);
		if (!nodes_empty(named)) {
			node = nearest_node_nodemask(node, &named);
			if (policy->mode == MPOL_BIND)
				*nodes = named;
		}
	}
	mpol_cond_put(policy);
	return node;
}
#else
static int place_by_policy(struct vm_area_struct *vma, unsigned long addr, int node,
			   nodemask_t *nodes)
{
	return node;
}
#endif

/* The best node for a locked folio of a device.  @nodes is set to all that are allowed. */
static int place_for_owner(struct vm_area_struct *vma, unsigned long addr,
			   struct folio *folio, nodemask_t *nodes)
{
	int node;

	*nodes = node_states[N_MEMORY];
	if (nodes_weight(*nodes) == 1)
		return first_node(*nodes);
	rcu_read_lock();
	mem_cgroup_node_filter_allowed(folio_memcg(folio), nodes);
	rcu_read_unlock();
	/* The cpuset may change while it is read: then the set may be empty. */
	if (nodes_empty(*nodes))
		*nodes = node_states[N_MEMORY];
	node = nearest_node_nodemask(folio_nid(folio), nodes);
	return vma ? place_by_policy(vma, addr, node, nodes) : node;
}

/*
 * hmm_p2p_alloc_ram - RAM for a page that leaves its device
 * @vma: the VMA that maps it, under mmap_lock or the VMA lock; NULL on eviction
 * @addr: its address there
 * @from: its folio, locked
 * @order: of the folio that the caller wants: 0, or that of a huge page; a huge page is not
 *	worth reclaim
 *
 * Return: a folio, not locked, or NULL.
 */
struct folio *hmm_p2p_alloc_ram(struct vm_area_struct *vma, unsigned long addr,
				struct folio *from, unsigned int order)
{
	gfp_t gfp = order ? GFP_TRANSHUGE_LIGHT : GFP_HIGHUSER_MOVABLE;
	struct folio *folio;
	nodemask_t nodes;
	int node;

	if (owner_is_mover(vma))
		return vma_alloc_folio(gfp, order, vma, addr);
	node = place_for_owner(vma, addr, from, &nodes);
	/*
	 * Without __GFP_HARDWALL the mover's cpuset limits nothing, but the allocator still
	 * tries the nodes of that cpuset before others: so ask for the best node alone first.
	 */
	gfp &= ~__GFP_HARDWALL;
	folio = __folio_alloc((gfp & ~__GFP_DIRECT_RECLAIM) | __GFP_THISNODE | __GFP_NOWARN,
			      order, node, NULL);
	return folio ?: __folio_alloc(gfp, order, node, &nodes);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of copies that are abandoned and end late.  What is kept for such a copy is freed
 * when it ends, and not before.
 */
#include <linux/delay.h>
#include <linux/list.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "fake_dma.h"

#define NR_COPIED	4

/* The device with the late copy, for threads and probes. */
static struct fake *copier;

static void die_when_copy_begins(struct fake *f)
{
	struct hmm_p2p_exporter *exp = f->exp;

	wait_for_completion(&copier->copy_begun);
	/* Wait for the copy op to return, or hmm_p2p_dead() warns of it. */
	while (atomic_read(&copier->exp->device_calls))
		msleep(1);
	/* Do what hmm_p2p_dead() does, with the driver's time limit already over. */
	WRITE_ONCE(exp->died, jiffies - HMM_P2P_COPY_LIMIT - 1);
	/* Pairs with the acquire in hmm_p2p_is_overdue(). */
	smp_store_release(&exp->dying, true);
	hmm_p2p_dead(exp);
}

/*
 * A copy by @f, to its device or from there to RAM, is under way when the device @dies.  The
 * migration abandons the copy.
 */
static void abandon_copy_of(struct kunit *test, struct fake *f, struct fake *dies,
			    unsigned long start, unsigned long nr, bool to_ram)
{
	unsigned long end = start + nr * PAGE_SIZE;
	struct hmm_p2p_result result = {};
	struct job death;
	int ret;

	copier = f;
	reinit_completion(&f->copy_begun);
	f->never_ends = true;
	job_call(test, &death, die_when_copy_begins, dies);
	kunit_warning_suppress(test) {
		if (to_ram)
			ret = hmm_p2p_migrate_to_ram(f->engine, current->mm, start, end,
						     &result);
		else
			ret = memory_to_device(f, start, nr, HMM_P2P_NO_EVICT, &result);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, -EIO, ret);
	KUNIT_EXPECT_EQ(test, nr, result.count[HMM_P2P_COPY_FAILED]);
	KUNIT_EXPECT_TRUE(test, job_done(&death, 60000));
}

static void abandon_copy(struct kunit *test, struct fake *f, struct fake *dies,
			 unsigned long start, bool to_ram)
{
	abandon_copy_of(test, f, dies, start, NR_COPIED, to_ram);
}

/* Place pages on a second device, which dies while the first one copies them from there. */
static struct fake *abandon_copy_from_peer(struct kunit *test)
{
	struct fake *to = test->priv, *from;
	unsigned long start;

	fake_register(test);
	from = fake_second(test);
	start = memory_create(test, NR_COPIED);
	memory_place_on(test, from, start, NR_COPIED);
	abandon_copy(test, to, from, start, false);
	KUNIT_EXPECT_EQ(test, NR_COPIED, from->freed);
	KUNIT_EXPECT_FALSE(test, memory_right(start, NR_COPIED - 1));
	return from;
}

/* Whether the work items of all abandoned batches have freed them. */
static bool all_reaped(void)
{
	unsigned long end = jiffies + 10 * HZ;

	while (!list_empty(&hmm_p2p_abandoned) && time_before(jiffies, end))
		msleep(1);
	return list_empty(&hmm_p2p_abandoned);
}

/* Free abandoned pages, which otherwise stay for ever. */
static void free_forgotten(struct fake *f)
{
	unsigned int i;

	for (i = 0; i < NR_COPIED; i++)
		if (page_count(fake_page(f, i)))
			put_page(fake_page(f, i));
}

/* A healthy device that has copied from a dead one can unregister when its copy has ended. */
static void late_from_dead_peer(struct kunit *test)
{
	struct fake *to = test->priv, *from = abandon_copy_from_peer(test);
	struct job gone;
	unsigned int i;

	/* The copy may still write to these pages. */
	KUNIT_EXPECT_EQ(test, 0, to->freed);
	for (i = 0; i < NR_COPIED; i++)
		KUNIT_EXPECT_EQ(test, 1, page_count(fake_page(to, i)));
	KUNIT_EXPECT_FALSE(test, list_empty(&hmm_p2p_abandoned));
	/* A report of what unregister waits for tells them from pages to move. */
	KUNIT_EXPECT_EQ(test, NR_COPIED, hmm_p2p_copy_nr_kept(to->engine));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_copy_nr_kept(from->engine));
	job_call(test, &gone, fake_unregister, to);
	KUNIT_EXPECT_FALSE(test, job_done(&gone, 200));
	KUNIT_EXPECT_EQ(test, 0, to->freed);

	fake_end_late(to);
	if (!job_done(&gone, 10000)) {
		KUNIT_FAIL(test, "the device cannot go\n");
		free_forgotten(to);
		wait_for_completion(&gone.done);
	}
	KUNIT_EXPECT_EQ(test, NR_COPIED, to->freed);
	KUNIT_EXPECT_TRUE(test, all_reaped());
	fake_second_exit(test, from);
}

/*
 * The copying device dies, too, before its copy has ended.  Unregister does not wait for its
 * memory.
 */
static void late_from_dead_peer_to_dead(struct kunit *test)
{
	struct fake *to = test->priv, *from = abandon_copy_from_peer(test);

	KUNIT_EXPECT_EQ(test, 0, to->freed);
	hmm_p2p_dead(to->exp);
	KUNIT_EXPECT_EQ(test, 0, to->freed);
	fake_unregister(to);
	KUNIT_EXPECT_EQ(test, NR_COPIED, to->freed);
	KUNIT_EXPECT_FALSE(test, list_empty(&hmm_p2p_abandoned));
	fake_end_late(to);
	KUNIT_EXPECT_TRUE(test, all_reaped());
	KUNIT_EXPECT_EQ(test, NR_COPIED, to->freed);
	fake_second_exit(test, from);
}

/* A huge page that lay in two windows has two pieces, and its destination has one reference. */
static void late_huge_in_two_windows(struct kunit *test)
{
	struct fake *from = test->priv, *to;
	struct page *head;
	struct job gone;
	unsigned long start;

	from->desc.window_offset = WINDOW_PAGES / 2 * PAGE_SIZE;
	from->desc.size = (NR_PAGES - WINDOW_PAGES / 2) * PAGE_SIZE;
	fake_register(test);
	start = memory_create_huge(test, 0);
	to = fake_second(test);
	to->gives_huge = true;
	abandon_copy_of(test, to, from, start, WINDOW_PAGES, false);
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, from->freed);
	head = fake_page(to, 0);
	KUNIT_EXPECT_EQ(test, 1, page_ref_count(head));
	KUNIT_EXPECT_EQ(test, HPAGE_PMD_ORDER, folio_order(page_folio(head)));
	KUNIT_EXPECT_EQ(test, 2, to->never_job->nr);
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, hmm_p2p_copy_nr_kept(to->engine));
	fake_end_late(to);
	KUNIT_EXPECT_TRUE(test, all_reaped());
	KUNIT_EXPECT_EQ(test, WINDOW_PAGES, to->freed);
	KUNIT_EXPECT_EQ(test, 0, page_ref_count(head));
	/* Or the device could not go. */
	if (page_ref_count(head) < 0)
		set_page_count(head, 0);
	else if (page_ref_count(head))
		hmm_p2p_dead(to->exp);
	job_call(test, &gone, fake_unregister, to);
	KUNIT_EXPECT_TRUE(test, job_done(&gone, 60000));
	fake_second_exit(test, to);
}

static unsigned int nr_met;

/* The tracepoint of a batch: its task has abandoned the copy, and still has the batch. */
static void end_copy_of_task(void *data, const char *exporter, int dir,
			     unsigned long addr, unsigned long migrated,
			     unsigned long failed)
{
	if (READ_ONCE(copier->never_job))
		nr_met++;
	fake_end_late(copier);
}

static void find_migrate_event(struct tracepoint *tp, void *priv)
{
	struct tracepoint **found = priv;

	if (!strcmp(tp->name, "hmm_p2p_migrate"))
		*found = tp;
}

/* The copy ends while the task still has the batch, so the task frees the batch. */
static void late_while_task_has_batch(struct kunit *test)
{
	struct fake *to = test->priv, *from;
	struct tracepoint *tp = NULL;

	for_each_kernel_tracepoint(find_migrate_event, &tp);
	KUNIT_ASSERT_NOT_NULL(test, tp);
	nr_met = 0;
	copier = to;
	KUNIT_ASSERT_EQ(test, 0, tracepoint_probe_register(tp, end_copy_of_task, NULL));
	from = abandon_copy_from_peer(test);
	tracepoint_probe_unregister(tp, end_copy_of_task, NULL);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_EQ(test, 1, nr_met);
	KUNIT_EXPECT_TRUE(test, all_reaped());
	KUNIT_EXPECT_EQ(test, NR_COPIED, to->freed);
	if (!to->freed) {
		/* hmm_p2p_dead() releases the pages of batches in the list only. */
		hmm_p2p_dead(to->exp);
		fake_unregister(to);
		free_forgotten(to);
	}
	fake_second_exit(test, from);
}

/* RAM that was the destination of a copy is freed when the copy has ended. */
static void late_to_ram(struct kunit *test)
{
	struct page *ram[NR_COPIED];
	struct fake *f = test->priv;
	unsigned int i, j, n = 0;
	unsigned long start;

	fake_register(test);
	start = memory_create_placed(test, NR_COPIED);
	abandon_copy(test, f, f, start, true);
	KUNIT_EXPECT_EQ(test, NR_COPIED, f->freed);
	KUNIT_ASSERT_NOT_NULL(test, f->never_job);
	for (i = 0; i < f->never_job->nr; i++)
		for (j = 0; j < f->never_job->copies[i].nr_pages && n < NR_COPIED; j++)
			ram[n++] = f->never_job->copies[i].ram_page + j;
	KUNIT_ASSERT_EQ(test, NR_COPIED, n);
	for (i = 0; i < NR_COPIED; i++) {
		KUNIT_EXPECT_EQ(test, 1, page_count(ram[i]));
		KUNIT_EXPECT_TRUE(test, PageLocked(ram[i]));
		get_page(ram[i]);
	}
	/* The exporter has unregistered.  The driver can still end its copy. */
	fake_unregister(f);
	fake_end_late(f);
	KUNIT_EXPECT_TRUE(test, all_reaped());
	for (i = 0; i < NR_COPIED; i++) {
		KUNIT_EXPECT_EQ(test, 1, page_count(ram[i]));
		KUNIT_EXPECT_FALSE(test, PageLocked(ram[i]));
		put_page(ram[i]);
	}
}

/* A late copy to a dead device's own memory is harmless, so only the job is kept. */
static void late_to_dead_device(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;

	fake_register(test);
	start = memory_create(test, NR_COPIED);
	abandon_copy(test, f, f, start, false);
	KUNIT_EXPECT_EQ(test, NR_COPIED, f->freed);
	KUNIT_EXPECT_TRUE(test, memory_right(start, NR_COPIED - 1));
	KUNIT_EXPECT_FALSE(test, list_empty(&hmm_p2p_abandoned));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_copy_nr_kept(f->engine));
	fake_end_late(f);
	KUNIT_EXPECT_TRUE(test, all_reaped());
	KUNIT_EXPECT_EQ(test, NR_COPIED, f->freed);
	KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
}

/* A copy by DMA to RAM that was abandoned: the batch's mappings. */
static struct hmm_p2p_dma *abandon_dma_to_ram(struct kunit *test, bool bounced)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	struct hmm_p2p_dma *dma;
	unsigned long start;

	if (bounced)
		fake_bounce_all(test, f);
	start = memory_create_placed(test, NR_COPIED);
	abandon_copy(test, f, f, start, true);
	KUNIT_ASSERT_NOT_NULL(test, f->never_job);
	dma = container_of(f->never_job, struct hmm_p2p_batch, job)->dma;
	/* The device may still write there. */
	KUNIT_EXPECT_PTR_EQ(test, f->engine, dma->engine);
	KUNIT_EXPECT_EQ(test, NR_COPIED, pages_left(f));
	return dma;
}

static void late_dma_to_ram(struct kunit *test)
{
	struct fake *f = test->priv;

	abandon_dma_to_ram(test, true);
	fake_end_late(f);
	KUNIT_EXPECT_TRUE(test, all_reaped());
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
}

/* The device goes with its driver: nothing may be mapped for it any more. */
static void late_dma_engine_goes_first(struct kunit *test)
{
	struct hmm_p2p_dma *dma = abandon_dma_to_ram(test, false);
	struct fake *f = test->priv;

	fake_unregister(f);
	KUNIT_EXPECT_NULL(test, dma->engine);
	KUNIT_EXPECT_EQ(test, NR_COPIED, dma->nr_pages);
	KUNIT_EXPECT_FALSE(test, list_empty(&hmm_p2p_abandoned));
	fake_end_late(f);
	KUNIT_EXPECT_TRUE(test, all_reaped());
}

/* Bounce buffers to which the device may still write are not for others. */
static void late_dma_bounced_engine_goes_first(struct kunit *test)
{
	struct hmm_p2p_dma *dma = abandon_dma_to_ram(test, true);
	struct hmm_p2p_dma_extent extents[NR_COPIED];
	unsigned int i, nr = dma->nr_extents;
	struct fake *f = test->priv;

	KUNIT_ASSERT_GE(test, NR_COPIED, nr);
	memcpy(extents, dma->extents, nr * sizeof(*extents));
	fake_unregister(f);
	KUNIT_EXPECT_NULL(test, dma->engine);
	/* So many were unmapped. */
	KUNIT_EXPECT_EQ(test, 0, dma->nr_extents);
	KUNIT_EXPECT_EQ(test, 0, dma->nr_pages);
	for (i = 0; i < nr && !dma->nr_extents; i++)
		dma_unmap_phys(&f->pdev->dev, extents[i].addr, extents[i].bytes,
			       DMA_FROM_DEVICE, 0);
	fake_end_late(f);
	KUNIT_EXPECT_TRUE(test, all_reaped());
}

/* What the device only reads from is the process's again, and not mapped any more. */
static void late_dma_to_device(struct kunit *test)
{
	struct fake *f = fake_register_dma(test, DMA_BIT_MASK(64));
	unsigned long start = memory_create(test, NR_COPIED);

	abandon_copy(test, f, f, start, false);
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
	KUNIT_EXPECT_FALSE(test, list_empty(&hmm_p2p_abandoned));
	fake_end_late(f);
	KUNIT_EXPECT_TRUE(test, all_reaped());
	KUNIT_EXPECT_EQ(test, 0, pages_left(f));
}

static struct kunit_case hmm_p2p_late_cases[] = {
	KUNIT_CASE_SLOW(late_from_dead_peer),
	KUNIT_CASE_SLOW(late_from_dead_peer_to_dead),
	KUNIT_CASE_SLOW(late_huge_in_two_windows),
	KUNIT_CASE_SLOW(late_while_task_has_batch),
	KUNIT_CASE_SLOW(late_to_ram),
	KUNIT_CASE_SLOW(late_to_dead_device),
	KUNIT_CASE_SLOW(late_dma_to_ram),
	KUNIT_CASE_SLOW(late_dma_engine_goes_first),
	KUNIT_CASE_SLOW(late_dma_bounced_engine_goes_first),
	KUNIT_CASE_SLOW(late_dma_to_device),
	{}
};

static struct kunit_suite hmm_p2p_late_suite = {
	.name = "hmm_p2p_late",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_late_cases,
};

kunit_test_suite(hmm_p2p_late_suite);

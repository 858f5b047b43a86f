// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of registration.
 */
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "fake.h"

/* The first line of the kernel log that refuses an exporter. */
static char refusal[192];

static void see_refusal(void *data, const char *text, size_t len)
{
	if (!refusal[0] && strnstr(text, "refused: ", len))
		strscpy(refusal, text, min(len + 1, sizeof(refusal)));
}

static void find_console(struct tracepoint *tp, void *priv)
{
	struct tracepoint **found = priv;

	if (!strcmp(tp->name, "console"))
		*found = tp;
}

/* ... and that the refusal names @field. */
#define EXPECT_REFUSED_FOR(field, f)						\
	do {									\
		refusal[0] = 0;							\
		EXPECT_REFUSED(-EINVAL, f);					\
		KUNIT_EXPECT_NOT_NULL(test, strstr(refusal, ": " field));	\
	} while (0)

static void register_refuses_bad_desc(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_exporter_desc good = f->desc;
	struct hmm_p2p_exporter_ops ops;
	struct range range = f->pgmap.range;
	struct tracepoint *tp = NULL;

	for_each_kernel_tracepoint(find_console, &tp);
	KUNIT_ASSERT_NOT_NULL(test, tp);
	KUNIT_ASSERT_EQ(test, 0, tracepoint_probe_register(tp, see_refusal, NULL));

#define BAD_DESC_FOR(name, field, value)		\
	do {						\
		f->desc.field = (value);		\
		EXPECT_REFUSED_FOR(name, f);		\
		f->desc = good;				\
	} while (0)
#define BAD_DESC(field, value)	BAD_DESC_FOR(#field, field, value)
	BAD_DESC(name, NULL);
	BAD_DESC_FOR("ops->open_window", ops, NULL);
	BAD_DESC(pgmap, NULL);
	BAD_DESC(window_shift, PMD_SHIFT - 1);
	BAD_DESC(window_shift, 31);
	BAD_DESC(window_shift, 64);
	BAD_DESC(size, PAGE_SIZE + 1);
	BAD_DESC(window_offset, PAGE_SIZE - 1);
	BAD_DESC(window_offset, PMD_SIZE);
	BAD_DESC(size, NR_WINDOWS * PMD_SIZE + PAGE_SIZE);
	/* An aperture without windows on demand is refused. */
	BAD_DESC_FOR("aperture", aperture.end, PMD_SIZE - 1);

	ops = *good.ops;
	ops.open_window = NULL;
	BAD_DESC_FOR("ops->open_window", ops, &ops);

#define BAD_PGMAP(name, field, value, old)	\
	do {					\
		f->pgmap.field = (value);	\
		EXPECT_REFUSED_FOR(name, f);	\
		f->pgmap.field = (old);		\
	} while (0)
	BAD_PGMAP("pgmap->owner", owner, NULL, f);
	BAD_PGMAP("pgmap->type", type, MEMORY_DEVICE_FS_DAX, MEMORY_DEVICE_PRIVATE);
	BAD_PGMAP("ops", type, MEMORY_DEVICE_COHERENT, MEMORY_DEVICE_PRIVATE);
	BAD_PGMAP("pgmap->nr_range", nr_range, 2, 1);
	BAD_PGMAP("pgmap->range", range.start, range.start + PAGE_SIZE, range.start);
	BAD_PGMAP("pgmap->range", range.end, range.end - 1, range.end);

	/* Coherent memory with ops, which it must not have. */
	ops = *good.ops;
	ops.open_window = NULL;
	ops.close_window = NULL;
	f->pgmap.type = MEMORY_DEVICE_COHERENT;
	f->desc.provider = NULL;
	BAD_DESC(ops, &ops);
	f->pgmap.type = MEMORY_DEVICE_PRIVATE;

	/* Windows on demand, with an aperture that holds none. */
	fake_on_demand(test, 1);
	f->max_open = 0;
	f->desc.aperture.end = f->desc.aperture.start + PMD_SIZE - 2;
	EXPECT_REFUSED_FOR("aperture", f);
	f->desc = good;

	/* A window where none can be: which one, of how many, and how large they are. */
	f->misalign = PAGE_SIZE;
	EXPECT_REFUSED_FOR("map->phys is no multiple", f);
	KUNIT_EXPECT_NOT_NULL(test, strstr(refusal, "window 0 of 4 (each 0x200000 bytes)"));
	f->misalign = 0;
	tracepoint_probe_unregister(tp, see_refusal, NULL);
	tracepoint_synchronize_unregister();

	/* The exporter can still be registered. */
	fake_register(test);
}

static void register_refuses_bad_windows(struct kunit *test)
{
	struct fake *f = test->priv;
	struct page *block;

	f->misalign = PAGE_SIZE;
	EXPECT_REFUSED(-EINVAL, f);
	f->misalign = 0;

	f->open_error = -EIO;
	EXPECT_REFUSED(-EIO, f);
	f->open_error = 0;

	/* Two windows with the same address. */
	block = f->blocks[2];
	f->blocks[2] = f->blocks[1];
	EXPECT_REFUSED(-EBUSY, f);
	f->blocks[2] = block;

	fake_register(test);
}

static void register_twice(struct kunit *test)
{
	struct fake *f = test->priv;
	struct dev_pagemap *other;

	other = kunit_kzalloc(test, sizeof(*other), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, other);
	memcpy(other, &f->pgmap, sizeof(*other));
	fake_register(test);
	EXPECT_REFUSED(-EEXIST, f);
	f->desc.name = "kunit other name";
	EXPECT_REFUSED(-EEXIST, f);
	/* Other memory of the same owner: the engine cannot tell the pages apart. */
	f->desc.pgmap = other;
	if (f->engine)
		EXPECT_REFUSED(-EEXIST, f);
	/* Other memory of another owner, with the same name. */
	other->owner = other;
	f->desc.name = f->name;
	EXPECT_REFUSED(-EEXIST, f);
	f->desc.pgmap = &f->pgmap;
	fake_unregister(f);
	fake_register(test);
}

/* A task with a reference finds out that the exporter is unregistered. */
static void reference_after_unregister(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_exporter *exp;

	fake_register(test);
	exp = f->exp;
	hmm_p2p_exporter_get(exp);
	fake_unregister(f);
	/* Free what has no reference. */
	rcu_barrier();
	KUNIT_ASSERT_EQ(test, 1, kref_read(&exp->kref));
	KUNIT_EXPECT_EQ(test, -ENODEV, hmm_p2p_revoke(exp, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_get_stat(exp, HMM_P2P_STAT_PEER_FAULTS));
	hmm_p2p_exporter_put(exp);
}

/* Between a page and its place in the memory, both ways. */
static void page_and_offset(struct kunit *test)
{
	struct fake *f = test->priv;
	u64 last = range_len(&f->pgmap.range) - PAGE_SIZE;

	KUNIT_EXPECT_EQ(test, page_to_pfn(hmm_p2p_page_at(&f->pgmap, 0)),
			PHYS_PFN(f->pgmap.range.start));
	KUNIT_EXPECT_EQ(test, hmm_p2p_page_offset(hmm_p2p_page_at(&f->pgmap, 0)), 0);
	KUNIT_EXPECT_EQ(test, page_to_pfn(hmm_p2p_page_at(&f->pgmap, last)),
			PHYS_PFN(f->pgmap.range.end));
	KUNIT_EXPECT_EQ(test, hmm_p2p_page_offset(hmm_p2p_page_at(&f->pgmap, last)), last);
}

static struct kunit_case hmm_p2p_core_cases[] = {
	KUNIT_CASE(register_refuses_bad_desc),
	KUNIT_CASE(register_refuses_bad_windows),
	KUNIT_CASE(register_twice),
	KUNIT_CASE(reference_after_unregister),
	KUNIT_CASE(page_and_offset),
	{}
};

static struct kunit_suite hmm_p2p_core_suite = {
	.name = "hmm_p2p_core",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_core_cases,
};

kunit_test_suite(hmm_p2p_core_suite);

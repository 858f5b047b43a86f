// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of engines as objects: wrong descriptions, and the order in which exporter and
 * engine register and unregister.
 */
#include "fake.h"

#define EXPECT_NO_ENGINE(err, f)						\
	KUNIT_EXPECT_EQ(test, err,						\
			PTR_ERR(hmm_p2p_engine_register((f)->exp, &(f)->engine_desc)))

static void engine_refuses_bad_desc(struct kunit *test)
{
	struct fake *f = test->priv;
	struct hmm_p2p_engine_desc good = f->engine_desc;
	struct hmm_p2p_engine_ops ops;
	struct hmm_p2p_engine *engine;

	f->without_engine = true;
	fake_register(test);

#define BAD_DESC(field, value)			\
	do {					\
		f->engine_desc.field = (value);	\
		EXPECT_NO_ENGINE(-EINVAL, f);	\
		f->engine_desc = good;		\
	} while (0)
	BAD_DESC(ops, NULL);
	BAD_DESC(fault_around, 3 * PAGE_SIZE);
	BAD_DESC(fault_around, 2 * PMD_SIZE);

#define BAD_OP(op)				\
	do {					\
		ops = *good.ops;		\
		ops.op = NULL;			\
		BAD_DESC(ops, &ops);		\
	} while (0)
	BAD_OP(alloc_folios);
	BAD_OP(copy);

	/* A correct engine can still be registered. */
	f->engine_desc.fault_around = PMD_SIZE;
	engine = hmm_p2p_engine_register(f->exp, &f->engine_desc);
	KUNIT_ASSERT_FALSE(test, IS_ERR(engine));
	f->engine = engine;
	KUNIT_EXPECT_PTR_EQ(test, f->engine, f->exp->engine);
	EXPECT_NO_ENGINE(-EEXIST, f);
	KUNIT_EXPECT_PTR_EQ(test, f->engine, f->exp->engine);
}

static void engine_of_dead_device(struct kunit *test)
{
	struct fake *f = test->priv;

	f->without_engine = true;
	fake_register(test);
	hmm_p2p_dead(f->exp);
	EXPECT_NO_ENGINE(-ENODEV, f);
	KUNIT_EXPECT_NULL(test, f->exp->engine);
}

/* The engine unregisters first and moves all pages to RAM, so the exporter has nothing to do. */
static void engine_unregister_evicts(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;
	unsigned long i;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 4);
	hmm_p2p_engine_unregister(f->engine);
	f->engine = NULL;
	KUNIT_EXPECT_NULL(test, f->exp->engine);
	KUNIT_EXPECT_EQ(test, 4, f->freed);
	KUNIT_EXPECT_EQ(test, 0, hmm_p2p_refs(f->exp));
	KUNIT_EXPECT_EQ(test, -ENODEV, fake_live(f->exp));
	EXPECT_NO_ENGINE(-ENODEV, f);
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_TRUE(test, memory_right(m->start, i));
	mirror_destroy(m);
}

/* Unregistering an exporter before its engine warns.  Nothing calls the engine here. */
static void unregister_with_engine(struct kunit *test)
{
	struct fake *f = test->priv;

	f->without_engine = true;
	fake_register(test);
	f->exp->engine = (struct hmm_p2p_engine *)f;
	kunit_warning_suppress(test) {
		fake_unregister(f);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	fake_register(test);
	kunit_warning_suppress(test) {
		fake_unregister(f);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
	}
}

/* An engine selects pages by their owner, so no other exporter may have the same owner. */
static void engine_wants_sole_owner(struct kunit *test)
{
	struct fake *a = test->priv, *b = fake_second_init(test);
	struct hmm_p2p_engine *engine;

	b->pgmap.owner = a->pgmap.owner;
	/* The engine registers first. */
	fake_register(test);
	b->without_engine = true;
	KUNIT_EXPECT_EQ(test, -EEXIST, fake_try_register(b));
	fake_unregister(a);
	/* The second exporter registers first. */
	a->without_engine = true;
	fake_register(test);
	KUNIT_EXPECT_EQ(test, 0, fake_try_register(b));
	EXPECT_NO_ENGINE(-EEXIST, a);
	EXPECT_NO_ENGINE(-EEXIST, b);
	/* After it has unregistered, the owner belongs to one exporter alone. */
	fake_unregister(b);
	engine = hmm_p2p_engine_register(a->exp, &a->engine_desc);
	KUNIT_EXPECT_FALSE(test, IS_ERR(engine));
	a->engine = IS_ERR(engine) ? NULL : engine;
	fake_second_exit(test, b);
}

/*
 * The engine takes pages from a device with a driver of its own engine over windows, or not at
 * all.
 */
static void engine_takes_over_windows(struct kunit *test)
{
	struct fake *f = test->priv, *own = fake_second_init(test);
	struct hmm_p2p_result result = {};
	unsigned long i, start;

	fake_register(test);
	own->without_engine = true;
	KUNIT_ASSERT_EQ(test, 0, fake_try_register(own));
	start = memory_create(test, 8);
	memory_place_on(test, own, start, 8);
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(f, start, 4, 0, &result));
	KUNIT_EXPECT_EQ(test, 4, result.migrated);
	KUNIT_EXPECT_EQ(test, 4, own->freed);
	/* There is no other way, so the result is that of the copy. */
	f->copy_error = -EIO;
	KUNIT_EXPECT_EQ(test, -EIO,
			memory_to_device(f, start + 4 * PAGE_SIZE, 4, 0, &result));
	f->copy_error = 0;
	KUNIT_EXPECT_EQ(test, 0, result.migrated);
	KUNIT_EXPECT_EQ(test, 4, own->freed);
	/* Leave the window as hmm_p2p_window_begin_revoke() of another task does. */
	WRITE_ONCE(own->exp->windows[0].state, HMM_P2P_REVOKING);
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(f, start + 4 * PAGE_SIZE, 4, 0, &result));
	WRITE_ONCE(own->exp->windows[0].state, HMM_P2P_OPEN);
	KUNIT_EXPECT_EQ(test, 0, result.migrated);
	KUNIT_EXPECT_EQ(test, 4, result.count[HMM_P2P_OTHER]);
	KUNIT_EXPECT_EQ(test, 4, own->freed);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&own->nr_faults));
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, memory_right(start, i));
	KUNIT_EXPECT_EQ(test, 4, atomic_read(&own->nr_faults));
	fake_second_exit(test, own);
}

/* The same for two such devices with one owner, for which the engine cannot ask separately. */
static void engine_takes_from_siblings(struct kunit *test)
{
	struct fake *f = test->priv, *a = fake_second_init(test), *b = fake_second_init(test);
	struct hmm_p2p_result result = {};
	unsigned long i, start;

	fake_register(test);
	a->without_engine = true;
	b->without_engine = true;
	b->pgmap.owner = a->pgmap.owner;
	KUNIT_ASSERT_EQ(test, 0, fake_try_register(a));
	KUNIT_ASSERT_EQ(test, 0, fake_try_register(b));
	start = memory_create(test, 8);
	for (i = 0; i < 8; i++)
		memory_place_on(test, i % 2 ? b : a, start + i * PAGE_SIZE, 1);
	KUNIT_EXPECT_EQ(test, 0, memory_to_device(f, start, 8, 0, &result));
	KUNIT_EXPECT_EQ(test, 8, result.migrated);
	KUNIT_EXPECT_EQ(test, 4, a->freed);
	KUNIT_EXPECT_EQ(test, 4, b->freed);
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, memory_right(start, i));
	fake_second_exit(test, a);
	fake_second_exit(test, b);
}

/* A page that the engine is asked to bring to RAM, and the driver has registered none. */
static void fault_without_engine(struct kunit *test)
{
	struct fake *f = test->priv;
	unsigned long start;

	f->without_engine = true;
	fake_register(test);
	start = memory_create(test, 2);
	memory_place(test, start, 2);
	/* Its dev_pagemap_ops.migrate_to_ram is hmm_p2p_migrate_fault() now. */
	f->without_engine = false;
	KUNIT_EXPECT_EQ(test, ULONG_MAX, memory_value(start, 1));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&f->nr_faults));
	fake_unregister(f);
	KUNIT_EXPECT_EQ(test, ULONG_MAX, memory_value(start, 1));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	/* Nothing is lost. */
	f->without_engine = true;
	KUNIT_EXPECT_TRUE(test, memory_right(start, 1));
	KUNIT_EXPECT_EQ(test, 1, f->freed);
}

static struct kunit_case hmm_p2p_engine_cases[] = {
	KUNIT_CASE(engine_refuses_bad_desc),
	KUNIT_CASE(engine_of_dead_device),
	KUNIT_CASE(engine_unregister_evicts),
	KUNIT_CASE(unregister_with_engine),
	KUNIT_CASE(engine_wants_sole_owner),
	KUNIT_CASE(engine_takes_over_windows),
	KUNIT_CASE(engine_takes_from_siblings),
	KUNIT_CASE(fault_without_engine),
	{}
};

static struct kunit_suite hmm_p2p_engine_suite = {
	.name = "hmm_p2p_engine",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = hmm_p2p_engine_cases,
};

kunit_test_suite(hmm_p2p_engine_suite);

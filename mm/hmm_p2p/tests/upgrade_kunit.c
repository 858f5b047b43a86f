// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of entries that are made writable in place (hmm_p2p_make_writable()) while the
 * exporter of their pages goes.  Its driver has an engine of its own, so the pages stay.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/leafops.h>

#include "fake.h"

/* How often the two have to meet, of how many rounds: a busy host lets some pass. */
#define MEETINGS	20UL
#define ROUNDS		60UL

static int entry_make_read_only(pte_t *ptep, unsigned long addr, void *data)
{
	softleaf_t entry = softleaf_from_pte(ptep_get(ptep));

	if (!softleaf_is_device_private(entry))
		return -EINVAL;
	entry = make_readable_device_private_entry(softleaf_to_pfn(entry));
	set_pte_at(current->mm, addr, ptep, softleaf_to_pte(entry));
	return 0;
}

/* As after fork(), when the child has gone: nobody else has the pages. */
static void make_read_only(struct kunit *test, unsigned long start, unsigned long nr)
{
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, apply_to_page_range(current->mm, start, nr * PAGE_SIZE,
						     entry_make_read_only, NULL));
	mmap_read_unlock(current->mm);
}

static struct {
	struct fake *f;
	atomic_t begun;
	unsigned long met;		/* the exporter went meanwhile */
} upgrade;

/* The walk is under rcu_read_lock(): the exporter cannot get farther than out of the pgmap. */
static int upgrade_lingers(struct kprobe *p, struct pt_regs *regs)
{
	unsigned int ms;

	atomic_inc(&upgrade.begun);
	for (ms = 0; ms < 3000; ms++) {
		if (!rcu_access_pointer(upgrade.f->pgmap.p2p_exporter)) {
			upgrade.met++;
			break;
		}
		mdelay(1);
	}
	return 0;
}

static struct kprobe upgrader = {
	.symbol_name = "hmm_p2p_make_writable", .pre_handler = upgrade_lingers,
};

static void upgrade_in_place(struct kunit *test)
{
	struct fake *f = test->priv;
	struct mirror *m;

	fake_register(test);
	m = mirror_create_mapped(test, "soft", 2);
	make_read_only(test, m->start, 2);
	mirror_let_go(m);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m, 0, 2, HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE));
	KUNIT_EXPECT_TRUE(test, mirror_has(m, 1, fake_alias(f, 1)));
	KUNIT_EXPECT_TRUE(test, m->map.pfn_list[1] & HMM_PFN_WRITE);
	KUNIT_EXPECT_EQ(test, 2, hmm_p2p_total_read(f->exp, HMM_P2P_C_UPGRADES));
	KUNIT_EXPECT_EQ(test, 0, f->freed);
	mirror_destroy(m);
}

/*
 * The exporter goes between the begin of the upgrade, which finds the page's exporter last of
 * all, and its end.  The write goes to RAM then.
 */
static void upgrade_meets_unregister(struct kunit *test)
{
	unsigned long start = memory_create(test, 2), end, met, i;
	struct fake *f = test->priv;
	struct job job;

	memset(&upgrade, 0, sizeof(upgrade));
	upgrade.f = f;
	f->wants = mirror_create(test, "soft", start, 2);
	for (i = 1; i <= ROUNDS && upgrade.met < MEETINGS; i++) {
		met = upgrade.met;
		end = jiffies + 60 * HZ;
		fake_register(test);
		KUNIT_ASSERT_EQ(test, 2, fake_own_to_device(f, current->mm, start, 2));
		make_read_only(test, start, 2);
		upgrader.addr = NULL;
		upgrader.flags = 0;
		KUNIT_ASSERT_EQ(test, 0, register_kprobe(&upgrader));
		job_fault(test, &job, f->wants, 0, 1, HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE);
		while (atomic_read(&upgrade.begun) < i && time_before(jiffies, end))
			msleep(1);
		fake_unregister(f);
		KUNIT_EXPECT_TRUE(test, job_done(&job, 10000));
		unregister_kprobe(&upgrader);
		KUNIT_EXPECT_EQ(test, 0, job.ret);
		if (upgrade.met > met)
			KUNIT_EXPECT_TRUE(test, mirror_has(f->wants, 0, 0));
		KUNIT_EXPECT_TRUE(test, memory_right(start, 0));
		KUNIT_EXPECT_TRUE(test, memory_right(start, 1));
	}
	KUNIT_EXPECT_EQ(test, MEETINGS, upgrade.met);
	mirror_destroy(f->wants);
}

static struct kunit_case hmm_p2p_upgrade_cases[] = {
	KUNIT_CASE(upgrade_in_place),
	KUNIT_CASE_SLOW(upgrade_meets_unregister),
	{}
};

static struct kunit_suite hmm_p2p_upgrade_suite = {
	.name = "hmm_p2p_upgrade",
	.init = fake_init_without_engine,
	.exit = fake_exit,
	.test_cases = hmm_p2p_upgrade_cases,
};

kunit_test_suite(hmm_p2p_upgrade_suite);

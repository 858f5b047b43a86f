// SPDX-License-Identifier: GPL-2.0
/*
 * DOC: QEMU's edu as a bus master
 *
 * edu is a dummy without memory for pages of processes.  This project did not make it, so a real
 * DMA engine uses the DMA addresses that the core hands out.  It has a buffer of a page, and the
 * DMA engine copies between that and the bus.  It has a page table and queues like the other
 * dummies, but its commands (FILL, COPY, CRC32C) go over the bus, at the addresses of
 * hmm_dma_map_pfn().  It is bound on request, like a GPU (see pci.c), to the driver
 * "hmm_dummy_edu".
 *
 * A transfer takes 100 ms.  A command waits for it under the lock of the page table, as a GPU
 * waits for its engines when its TLB is flushed.  After "loose 1" (control.c) a command waits
 * without that lock.  Only an IOMMU then stops a transfer to a page that is taken away meanwhile:
 * tests look at what such a transfer hits.
 *
 * With the module parameter edu_copies, edu also makes the copies for migrations of each dummy
 * with memory that is bound from then on.  edu copies by DMA between the other side, which is RAM
 * or another GPU's memory, and its buffer, and between its buffer and a page of RAM.  The CPU
 * copies between that page and the dummy's memory.  The driver core unbinds that dummy before edu.
 *
 * A transfer that does not end in time could still store into memory when that has another use.
 * So the driver takes edu off the bus before it reports the error, and edu does nothing until it
 * is bound again.  The next probe waits for the end of that transfer.
 *
 * While the machine sleeps, edu neither works on commands nor copies: its queues rest from prepare
 * on.  The dummy that it copies for sleeps before it, as the consumer of a device link.  No copy
 * begins after that.
 *
 * Registers: QEMU, docs/specs/edu.rst.
 */
#include <linux/crc32.h>
#include <linux/delay.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "test.h"

static bool no_iova;
module_param(no_iova, bool, 0444);
MODULE_PARM_DESC(no_iova,
		 "Map for edu without IOVA state, as where none can be had; for tests (N)");

static bool edu_copies;
module_param(edu_copies, bool, 0644);
MODULE_PARM_DESC(edu_copies,
		 "Let edu make the copies of GPUs that are bound from now on; for tests (N)");

static unsigned int edu_timeout_ms = 5000;
module_param(edu_timeout_ms, uint, 0644);
MODULE_PARM_DESC(edu_timeout_ms, "Milliseconds that a transfer of edu may take (5000)");

#define EDU_SRC		0x80
#define EDU_DST		0x88
#define EDU_COUNT	0x90
#define EDU_CMD		0x98
#define   EDU_START	0x1
#define   EDU_TO_MEMORY	0x2
/*
 * The buffer of the device, as its DMA engine sees it: a page.  Commands use its first part, and
 * copies another one.  A transfer that ends with the last byte makes QEMU 7.2 abort.
 */
#define EDU_BUFFER	0x40000
#define EDU_MAX		2040
#define EDU_COPY_BUFFER	(EDU_BUFFER + EDU_MAX)
#define EDU_COPY_MAX	2048

static DEFINE_MUTEX(edus_lock);
static LIST_HEAD(edus);			/* edus_lock */

struct hmm_dummy_edu {
	struct list_head node;		/* edus_lock: edus */
	struct pci_dev *pdev;
	void __iomem *regs;
	/*
	 * Of commands: their part of the buffer, and bounce.  Inside of hmm_dummy_file.lock,
	 * outside of hmm_dummy_range.lock.
	 */
	struct mutex lock;
	void *bounce;
	dma_addr_t bounce_dma;
	/* Of copies: theirs, and copy_bounce.  Inside of mmap_lock. */
	struct mutex copy_lock;
	void *copy_bounce;
	dma_addr_t copy_bounce_dma;
	/* One transfer at a time.  Inside of all other locks. */
	struct mutex dma_lock;
	bool off;			/* dma_lock: it does not master the bus any more */
	bool asleep;			/* dma_lock: no transfer may begin */
	bool loose;
	/* READ_ONCE, for tests: which way, since when. */
	bool storing;
	unsigned long since;
	struct hmm_dummy_dev *dev;
};

void hmm_dummy_edu_loose(struct hmm_dummy_edu *edu, bool loose)
{
	WRITE_ONCE(edu->loose, loose);
}

static bool edu_is_busy(struct hmm_dummy_edu *edu)
{
	return readl(edu->regs + EDU_CMD) & EDU_START;
}

void hmm_dummy_edu_show(struct hmm_dummy_edu *edu, struct seq_file *m)
{
	/* An idle edu has no transfer, so it shows no time. */
	if (!edu_is_busy(edu))
		seq_puts(m, "idle 0\n");
	else
		seq_printf(m, "%s %u\n", READ_ONCE(edu->storing) ? "storing" : "loading",
			   jiffies_to_msecs(jiffies - READ_ONCE(edu->since)));
}

/* When this returns, all that edu has stored is in memory, and it stores nothing more. */
static void edu_take_off_bus(struct hmm_dummy_edu *edu)
{
	u16 command;

	lockdep_assert_held(&edu->dma_lock);
	edu->off = true;
	pci_clear_master(edu->pdev);
	/* The answer to a read does not overtake the stores. */
	pci_read_config_word(edu->pdev, PCI_COMMAND, &command);
}

/* 0; or -EIO, and no transfer is under way. */
static int edu_wait_transfer(struct hmm_dummy_edu *edu)
{
	unsigned long begin = jiffies;

	lockdep_assert_held(&edu->dma_lock);
	if (edu->off)
		return -EIO;
	while (edu_is_busy(edu)) {
		if (time_after_eq(jiffies, begin + msecs_to_jiffies(READ_ONCE(edu_timeout_ms)))) {
			pci_err(edu->pdev, "a transfer does not end: off the bus\n");
			edu_take_off_bus(edu);
			return -EIO;
		}
		usleep_range(1000, 2000);
	}
	return 0;
}

/* Between a place in the buffer and memory. */
static int edu_start_transfer(struct hmm_dummy_edu *edu, dma_addr_t addr, unsigned int buffer,
			      unsigned long bytes, bool to_memory)
{
	int ret;

	if (WARN_ON_ONCE(edu->asleep))
		return -EIO;
	/* A loose one may be under way. */
	ret = edu_wait_transfer(edu);
	if (ret)
		return ret;
	WRITE_ONCE(edu->storing, to_memory);
	WRITE_ONCE(edu->since, jiffies);
	/* In one piece each: it has no registers for the upper halves. */
	writeq(to_memory ? buffer : addr, edu->regs + EDU_SRC);
	writeq(to_memory ? addr : buffer, edu->regs + EDU_DST);
	writeq(bytes, edu->regs + EDU_COUNT);
	writeq(EDU_START | (to_memory ? EDU_TO_MEMORY : 0), edu->regs + EDU_CMD);
	return 0;
}

static int edu_transfer_buffer(struct hmm_dummy_edu *edu, dma_addr_t addr, unsigned int buffer,
			       unsigned long bytes, bool to_memory)
{
	int ret;

	mutex_lock(&edu->dma_lock);
	ret = edu_start_transfer(edu, addr, buffer, bytes, to_memory);
	ret = ret ?: edu_wait_transfer(edu);
	mutex_unlock(&edu->dma_lock);
	return ret;
}

/* Of a command. */
static int edu_transfer(struct hmm_dummy_edu *edu, dma_addr_t addr, unsigned long bytes,
			bool to_memory)
{
	lockdep_assert_held(&edu->lock);
	return edu_transfer_buffer(edu, addr, EDU_BUFFER, bytes, to_memory);
}

/* The page may go while the transfer is under way. */
static int edu_transfer_loose(struct hmm_dummy_edu *edu, struct hmm_dummy_access *access,
			      bool to_memory)
{
	int ret;

	mutex_lock(&edu->dma_lock);
	ret = edu_start_transfer(edu, access->dma, EDU_BUFFER, access->bytes, to_memory);
	mutex_unlock(&edu->dma_lock);
	hmm_dummy_access_put(access);
	mutex_lock(&edu->dma_lock);
	ret = ret ?: edu_wait_transfer(edu);
	mutex_unlock(&edu->dma_lock);
	return ret;
}

/* What was imported never moves, and whoever revokes it waits for us. */
static int edu_transfer_pinned(struct hmm_dummy_job *job, u64 pos, unsigned long bytes,
			       bool to_memory)
{
	struct hmm_dummy_dev *dev = job->queue->ctx->dev;
	dma_addr_t addr;
	int ret;

	if (!hmm_dummy_pinned_get_dma(job->pinned, pos, &addr))
		return -ENODEV;
	ret = edu_transfer(dev->test.edu, addr, bytes, to_memory);
	hmm_dummy_scratch_put(dev, job->pinned);
	return ret;
}

/* Between the buffer and memory of the process; *bytes is what there is in one piece. */
static int edu_transfer_process(struct hmm_dummy_job *job, unsigned long addr,
				unsigned long *bytes, bool to_memory)
{
	struct hmm_dummy_edu *edu = job->queue->ctx->dev->test.edu;
	struct hmm_dummy_access access;
	int ret;

	if (job->arg.flags & HMM_DUMMY_IN_SCRATCH)
		return edu_transfer_pinned(job, addr, *bytes, to_memory);
	ret = hmm_dummy_job_access(job, addr, *bytes, to_memory, &access);
	if (ret)
		return ret;
	*bytes = access.bytes;
	if (READ_ONCE(edu->loose))
		return edu_transfer_loose(edu, &access, to_memory);
	ret = edu_transfer(edu, access.dma, *bytes, to_memory);
	hmm_dummy_access_put(&access);
	return ret;
}

static int edu_piece_locked(struct hmm_dummy_edu *edu, struct hmm_dummy_job *job,
			    u64 offset, unsigned long *bytes)
{
	struct hmm_dummy_command *arg = &job->arg;
	unsigned long room = PAGE_SIZE - offset_in_page(arg->addr + offset);
	int ret;

	*bytes = min3(*bytes, room, (unsigned long)EDU_MAX);
	switch (arg->op) {
	case HMM_DUMMY_OP_FILL:
		memset(edu->bounce, arg->value, *bytes);
		ret = edu_transfer(edu, edu->bounce_dma, *bytes, false);
		break;
	case HMM_DUMMY_OP_COPY:
		ret = edu_transfer_process(job, arg->src + offset, bytes, false);
		break;
	default:
		ret = edu_transfer_process(job, arg->addr + offset, bytes, false);
		if (!ret)
			ret = edu_transfer(edu, edu->bounce_dma, *bytes, true);
		if (!ret)
			job->crc = crc32c(job->crc, edu->bounce, *bytes);
		return ret;
	}
	return ret ?: edu_transfer_process(job, arg->addr + offset, bytes, true);
}

bool hmm_dummy_test_has_engine(struct hmm_dummy_dev *dev)
{
	return dev->test.edu;
}

bool hmm_dummy_test_refuses(struct hmm_dummy_dev *dev, const struct hmm_dummy_command *arg)
{
	return dev->test.edu && arg->op > HMM_DUMMY_OP_CRC32C;
}

/* The engine uses the DMA address of a page; the next page need not follow on the bus. */
bool hmm_dummy_test_access_by_dma(struct hmm_dummy_dev *dev,
				  struct hmm_dummy_access *access)
{
	if (!dev->test.edu)
		return false;
	access->bytes = min(access->bytes, PAGE_SIZE - offset_in_page(access->dma));
	return true;
}

/* A piece of a command, see command.c. */
int hmm_dummy_test_engine_piece(struct hmm_dummy_job *job, u64 offset, unsigned long *bytes)
{
	struct hmm_dummy_edu *edu = job->queue->ctx->dev->test.edu;
	int ret;

	mutex_lock(&edu->lock);
	ret = edu_piece_locked(edu, job, offset, bytes);
	mutex_unlock(&edu->lock);
	return ret;
}

/*
 * Let edu make the copies of a GPU, if that is what the test wants and there is one.  0, or
 * -ENODEV: edu comes or goes now.
 */
int hmm_dummy_test_engine_desc(struct hmm_dummy_dev *dev, struct hmm_p2p_engine_desc *desc)
{
	struct device_link *link = NULL;
	struct hmm_dummy_edu *edu;

	if (!edu_copies || !dev->pdev)
		return 0;
	guard(mutex)(&edus_lock);
	edu = list_first_entry_or_null(&edus, struct hmm_dummy_edu, node);
	if (!edu)
		return 0;
	/*
	 * The driver core unbinds the GPU before edu, if it finds the link when it begins:
	 *
	 *	GPU is bound			edu is unbound, with device_lock()
	 *					driver core: has no consumers, DL_DEV_UNBINDING
	 *	device_link_add()
	 *					hmm_dummy_edu_remove(): waits for edus_lock
	 *
	 * So the link is made under that lock.  A task that has it may wait for edus_lock.
	 */
	if (!device_trylock(&edu->pdev->dev))
		return -ENODEV;
	if (edu->pdev->dev.links.status == DL_DEV_DRIVER_BOUND)
		link = device_link_add(&dev->pdev->dev, &edu->pdev->dev,
				       DL_FLAG_AUTOREMOVE_CONSUMER);
	device_unlock(&edu->pdev->dev);
	if (!link)
		return -ENODEV;
	dev->test.copier = edu;
	desc->dev = &edu->pdev->dev;
	desc->dma_copies = true;
	return 0;
}

/* Between the memory of a GPU and copy_bounce. */
static void edu_copy_vram(struct hmm_dummy_edu *edu, struct hmm_dummy_dev *dev,
			  const struct hmm_p2p_dma_copy *piece, bool to_ram)
{
	void *vram = hmm_dummy_vram_get(dev, piece->offset);

	if (piece->clear)
		memset(vram, 0, piece->bytes);
	else if (to_ram)
		memcpy(edu->copy_bounce, vram, piece->bytes);
	else
		memcpy(vram, edu->copy_bounce, piece->bytes);
	hmm_dummy_vram_put(dev);
}

static int edu_copy_piece(struct hmm_dummy_edu *edu, struct hmm_dummy_dev *dev,
			  const struct hmm_p2p_dma_copy *piece, bool to_ram)
{
	int ret;

	/* The core was told what edu can do; no such piece crosses a chunk of the memory. */
	if (WARN_ON_ONCE(piece->bytes > EDU_COPY_MAX))
		return -EINVAL;
	if (to_ram || piece->clear)
		edu_copy_vram(edu, dev, piece, to_ram);
	if (piece->clear)
		return 0;
	ret = edu_transfer_buffer(edu, to_ram ? edu->copy_bounce_dma : piece->addr,
				  EDU_COPY_BUFFER, piece->bytes, false);
	if (!ret)
		ret = edu_transfer_buffer(edu, to_ram ? piece->addr : edu->copy_bounce_dma,
					  EDU_COPY_BUFFER, piece->bytes, true);
	if (!ret && !to_ram)
		edu_copy_vram(edu, dev, piece, to_ram);
	WRITE_ONCE(dev->test.copied, dev->test.copied + piece->bytes);
	return ret;
}

/* A copy of a dummy's migration engine. */
int hmm_dummy_test_copy_by_dma(struct hmm_dummy_dev *dev, struct hmm_p2p_copy_job *job)
{
	struct hmm_dummy_edu *edu = dev->test.copier;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < job->nr_dma && !ret; i++) {
		if (READ_ONCE(dev->dead) || i + 1 == READ_ONCE(dev->test.copy_fails))
			return -EIO;
		mutex_lock(&edu->copy_lock);
		ret = edu_copy_piece(edu, dev, &job->dma[i], job->dir == HMM_P2P_TO_RAM);
		mutex_unlock(&edu->copy_lock);
	}
	return ret;
}

/*
 * What hmm_dma_map_alloc() makes where there is no IOVA to be had: each page is mapped by
 * itself, and unmapped into the IOMMU's flush queue.
 */
int hmm_dummy_test_range_map(struct hmm_dummy_range *range)
{
	struct device *dev = range->dma_dev;
	struct hmm_dma_map *map = &range->map;

	if (!no_iova || !range->ctx->dev->test.edu || !dma_use_iova(&map->state))
		return 0;
	map->dma_list = kvcalloc(RANGE_PAGES, sizeof(*map->dma_list), GFP_KERNEL);
	if (!map->dma_list) {
		hmm_dma_map_free(dev, map);
		return -ENOMEM;
	}
	dma_iova_free(dev, &map->state);
	map->state = (struct dma_iova_state) {};
	return 0;
}

/*
 * A transfer that did not end in time may be under way, since before the last unbind.  It would go
 * on when edu masters the bus, and store into memory that has another use by now.
 */
static int edu_put_on_bus(struct hmm_dummy_edu *edu)
{
	int ret;

	mutex_lock(&edu->dma_lock);
	ret = edu_wait_transfer(edu);
	mutex_unlock(&edu->dma_lock);
	if (!ret)
		pci_set_master(edu->pdev);
	return ret;
}

static int hmm_dummy_edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct hmm_dummy_desc desc = { .pdev = pdev };
	struct hmm_dummy_edu *edu;
	int ret;

	edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	if (!edu)
		return -ENOMEM;
	edu->pdev = pdev;
	ret = devm_mutex_init(&pdev->dev, &edu->lock);
	ret = ret ?: devm_mutex_init(&pdev->dev, &edu->copy_lock);
	ret = ret ?: devm_mutex_init(&pdev->dev, &edu->dma_lock);
	if (ret)
		return ret;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	edu->regs = pcim_iomap_region(pdev, 0, "hmm_dummy_edu");
	if (IS_ERR(edu->regs))
		return PTR_ERR(edu->regs);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	/* For copies of the migration engine: a piece is what one transfer can take. */
	dma_set_max_seg_size(&pdev->dev, EDU_COPY_MAX);
	ret = edu_put_on_bus(edu);
	if (ret)
		return ret;
	edu->bounce = dmam_alloc_coherent(&pdev->dev, EDU_MAX, &edu->bounce_dma,
					  GFP_KERNEL);
	edu->copy_bounce = dmam_alloc_coherent(&pdev->dev, EDU_COPY_MAX, &edu->copy_bounce_dma,
					       GFP_KERNEL);
	if (!edu->bounce || !edu->copy_bounce)
		return -ENOMEM;

	desc.test.edu = edu;
	edu->dev = hmm_dummy_add(&desc);
	if (IS_ERR(edu->dev))
		return PTR_ERR(edu->dev);
	pci_set_drvdata(pdev, edu);
	mutex_lock(&edus_lock);
	list_add_tail(&edu->node, &edus);
	mutex_unlock(&edus_lock);
	return 0;
}

static void hmm_dummy_edu_remove(struct pci_dev *pdev)
{
	struct hmm_dummy_edu *edu = pci_get_drvdata(pdev);

	mutex_lock(&edus_lock);
	list_del(&edu->node);
	mutex_unlock(&edus_lock);
	hmm_dummy_remove(edu->dev);
}

static int edu_sleep_prepare(struct device *device)
{
	struct hmm_dummy_edu *edu = dev_get_drvdata(device);

	return hmm_dummy_quiesce_all(edu->dev);
}

static void edu_sleep_complete(struct device *device)
{
	struct hmm_dummy_edu *edu = dev_get_drvdata(device);

	hmm_dummy_unquiesce(edu->dev);
}

/* The GPU that edu copies for sleeps already, so only a loose transfer can be under way. */
static int edu_suspend_late(struct device *device)
{
	struct hmm_dummy_edu *edu = dev_get_drvdata(device);

	guard(mutex)(&edu->dma_lock);
	/* If that fails, edu is off the bus. */
	edu_wait_transfer(edu);
	edu->asleep = true;
	return 0;
}

static int edu_resume_early(struct device *device)
{
	struct hmm_dummy_edu *edu = dev_get_drvdata(device);

	guard(mutex)(&edu->dma_lock);
	edu->asleep = false;
	return 0;
}

static const struct dev_pm_ops edu_pm_ops = {
	.prepare = pm_sleep_ptr(edu_sleep_prepare),
	.complete = pm_sleep_ptr(edu_sleep_complete),
	LATE_SYSTEM_SLEEP_PM_OPS(edu_suspend_late, edu_resume_early)
};

static struct pci_driver hmm_dummy_edu_driver = {
	.name = "hmm_dummy_edu",
	.driver.pm = pm_sleep_ptr(&edu_pm_ops),
	.probe = hmm_dummy_edu_probe,
	.remove = hmm_dummy_edu_remove,
};

static bool have_driver;

/* The driver for GPUs is registered; what is for tests does not fail it. */
void hmm_dummy_test_pci_init(void)
{
	int ret = pci_register_driver(&hmm_dummy_edu_driver);

	if (ret)
		pr_err("hmm_dummy: no driver for edu: error %d\n", ret);
	have_driver = !ret;
}

void hmm_dummy_test_pci_exit(void)
{
	if (have_driver)
		pci_unregister_driver(&hmm_dummy_edu_driver);
}

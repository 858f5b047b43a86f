// SPDX-License-Identifier: GPL-2.0
/* Requests of rdma netlink; see rdma_nl.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <libmnl/libmnl.h>

#include "rdma_nl.h"

#define NR_ATTRS	256

static char reason[160];

const char *rdma_nl_error(void)
{
	return reason;
}

static struct nlmsghdr *request(char *buf, unsigned int command, unsigned int flags)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);

	msg->nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, command);
	msg->nlmsg_flags = NLM_F_REQUEST | flags;
	return msg;
}

/* The kernel's text behind an error, which comes if NETLINK_EXT_ACK is set. */
static void read_reason(const struct nlmsghdr *msg)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);
	size_t at = sizeof(*err);
	const struct nlattr *attr;

	if (!(msg->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(msg->nlmsg_flags & NLM_F_CAPPED))
		at += mnl_nlmsg_get_payload_len(msg) > at ? err->msg.nlmsg_len - NLMSG_HDRLEN : 0;
	mnl_attr_for_each(attr, msg, at)
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG)
			snprintf(reason, sizeof(reason), "%s", mnl_attr_get_str(attr));
}

static int on_error(const struct nlmsghdr *msg, void *arg)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(msg);

	read_reason(msg);
	errno = -err->error;
	return err->error ? MNL_CB_ERROR : MNL_CB_STOP;
}

static int talk(struct nlmsghdr *msg, mnl_cb_t fn, void *arg)
{
	/* The end of a dump is behind it, and libmnl's. */
	mnl_cb_t control[] = { [NLMSG_ERROR] = on_error };
	struct mnl_socket *s = mnl_socket_open(NETLINK_RDMA);
	char buf[MNL_SOCKET_BUFFER_SIZE > 32768 ? MNL_SOCKET_BUFFER_SIZE : 32768];
	int on = 1, ret = -1, error;
	ssize_t n;

	reason[0] = 0;
	if (!s)
		return -1;
	mnl_socket_setsockopt(s, NETLINK_EXT_ACK, &on, sizeof(on));
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) >= 0 &&
	    mnl_socket_sendto(s, msg, msg->nlmsg_len) >= 0) {
		do {
			n = mnl_socket_recvfrom(s, buf, sizeof(buf));
			ret = n < 0 ? -1 : mnl_cb_run2(buf, n, 0, 0, fn, arg, control,
						       NLMSG_ERROR + 1);
		} while (ret > 0);
	}
	error = errno;
	mnl_socket_close(s);
	errno = error;
	return ret;
}

static int take_attr(const struct nlattr *attr, void *arg)
{
	const struct nlattr **table = arg;

	if (mnl_attr_get_type(attr) < NR_ATTRS)
		table[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

static uint32_t u32(const struct nlattr *attr)
{
	return attr ? mnl_attr_get_u32(attr) : 0;
}

static int u8(const struct nlattr *attr)
{
	return attr ? mnl_attr_get_u8(attr) : -1;
}

struct devs {
	int (*fn)(const struct rdma_nl_dev *dev, void *arg);
	void *arg;
	int ret;
};

static int each_dev(const struct nlmsghdr *msg, void *arg)
{
	const struct nlattr *attr[NR_ATTRS] = {};
	struct rdma_nl_dev dev = {};
	struct devs *devs = arg;

	mnl_attr_parse(msg, 0, take_attr, attr);
	if (!attr[RDMA_NLDEV_ATTR_DEV_INDEX] || !attr[RDMA_NLDEV_ATTR_DEV_NAME])
		return MNL_CB_OK;
	dev.index = u32(attr[RDMA_NLDEV_ATTR_DEV_INDEX]);
	dev.odp_mr = u8(attr[RDMA_NL_ATTR_DEV_ODP_MR]);
	snprintf(dev.name, sizeof(dev.name), "%s",
		 mnl_attr_get_str(attr[RDMA_NLDEV_ATTR_DEV_NAME]));
	if (!devs->ret)
		devs->ret = devs->fn(&dev, devs->arg);
	return MNL_CB_OK;
}

int rdma_nl_devs(int (*fn)(const struct rdma_nl_dev *dev, void *arg), void *arg)
{
	struct devs devs = { .fn = fn, .arg = arg };
	char buf[256];

	if (talk(request(buf, RDMA_NLDEV_CMD_GET, NLM_F_DUMP), each_dev, &devs))
		return -1;
	return devs.ret;
}

struct mrs {
	int (*fn)(const struct rdma_nl_mr *mr, void *arg);
	void *arg;
	uint32_t dev;
	int ret;
};

static int each_mr(const struct nlmsghdr *msg, void *arg)
{
	const struct nlattr *top[NR_ATTRS] = {}, *entry;
	struct mrs *mrs = arg;

	mnl_attr_parse(msg, 0, take_attr, top);
	if (!top[RDMA_NLDEV_ATTR_RES_MR])
		return MNL_CB_OK;
	mnl_attr_for_each_nested(entry, top[RDMA_NLDEV_ATTR_RES_MR]) {
		const struct nlattr *attr[NR_ATTRS] = {};
		struct rdma_nl_mr mr = { .dev = mrs->dev };

		mnl_attr_parse_nested(entry, take_attr, attr);
		if (!attr[RDMA_NLDEV_ATTR_RES_PID])
			continue;	/* the kernel's own */
		mr.pid = u32(attr[RDMA_NLDEV_ATTR_RES_PID]);
		mr.id = u32(attr[RDMA_NLDEV_ATTR_RES_MRN]);
		mr.length = attr[RDMA_NLDEV_ATTR_RES_MRLEN] ?
			mnl_attr_get_u64(attr[RDMA_NLDEV_ATTR_RES_MRLEN]) : 0;
		mr.kind = u8(attr[RDMA_NL_ATTR_RES_MR_KIND]);
		if (!mrs->ret)
			mrs->ret = mrs->fn(&mr, mrs->arg);
	}
	return MNL_CB_OK;
}

int rdma_nl_mrs(uint32_t dev, int (*fn)(const struct rdma_nl_mr *mr, void *arg), void *arg)
{
	struct mrs mrs = { .fn = fn, .arg = arg, .dev = dev };
	struct nlmsghdr *msg;
	char buf[256];

	msg = request(buf, RDMA_NLDEV_CMD_RES_MR_GET, NLM_F_DUMP);
	mnl_attr_put_u32(msg, RDMA_NLDEV_ATTR_DEV_INDEX, dev);
	if (talk(msg, each_mr, &mrs))
		return -1;
	return mrs.ret;
}

struct wanted {
	const char *name;
	struct rdma_nl_dev *dev;
};

static int is_it(const struct rdma_nl_dev *dev, void *arg)
{
	struct wanted *wanted = arg;

	if (strcmp(dev->name, wanted->name))
		return 0;
	*wanted->dev = *dev;
	return 1;
}

int rdma_nl_dev(const char *name, struct rdma_nl_dev *dev)
{
	struct wanted wanted = { name, dev };
	int ret = rdma_nl_devs(is_it, &wanted);

	if (!ret)
		errno = ENODEV;
	return ret > 0 ? 0 : -1;
}

int rdma_nl_set_odp_mr(uint32_t dev, uint8_t flags)
{
	struct nlmsghdr *msg;
	char buf[256];

	msg = request(buf, RDMA_NLDEV_CMD_SET, NLM_F_ACK);
	mnl_attr_put_u32(msg, RDMA_NLDEV_ATTR_DEV_INDEX, dev);
	mnl_attr_put_u8(msg, RDMA_NL_ATTR_DEV_ODP_MR, flags);
	return talk(msg, NULL, NULL);
}

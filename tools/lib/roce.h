/* SPDX-License-Identifier: GPL-2.0 */
/*
 * RoCE v2 packets that no verb sends: those of a broken or hostile peer, or of a late one, and
 * requests for which this library has no verb.
 */
#ifndef HMM_ROCE_H
#define HMM_ROCE_H

#include <endian.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What rxe counts; a file is up to date after some ms. */
#define RXE_COUNTERS "/sys/class/infiniband/rxe0/ports/1/hw_counters/"

#define ROCE_READ_REQUEST	0x0c
#define ROCE_ACK		0x11
#define ROCE_FLUSH		0x1c

#define ROCE_FLUSH_PERSISTENT	0x02
#define ROCE_FLUSH_REGION	0x10	/* the whole region, whatever the address */

/* A packet from 127.0.0.1 to itself, where two queue pairs are connected. */
struct roce_packet {
	uint8_t opcode;
	uint8_t flush;		/* for ROCE_FLUSH: kind and extent */
	uint32_t qpn;
	uint32_t psn;
	/* Of a request. */
	uint64_t va;
	uint32_t rkey;
	uint32_t length;
};

static inline void *roce_be32(void *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, 4);
	return (char *)at + 4;
}

/* Ethernet's polynomial behind eight bytes of ones, as in rxe_icrc.c. */
static inline uint32_t roce_icrc(const uint8_t *p, size_t length)
{
	uint32_t crc = 0xdebb20e3;

	while (length--) {
		crc ^= *p++;
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

/* Send a packet.  Returns 0, or -1 with errno.  Needs CAP_NET_RAW. */
static inline int roce_send(const struct roce_packet *p)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_addr.s_addr = htobe32(INADDR_LOOPBACK),
	};
	bool ack = p->opcode == ROCE_ACK;
	size_t payload = 12 + (p->opcode == ROCE_FLUSH ? 4 : 0) + (ack ? 4 : 16) + 4;
	uint8_t packet[28 + 36] = {}, masked[sizeof(packet)];
	uint8_t *udp = packet + 20, *bth = udp + 8;
	size_t length = 28 + payload;
	uint32_t icrc;
	ssize_t sent;
	void *at;
	int fd;

	/* Set the IPv4 identification.  Otherwise the kernel chooses one. */
	at = roce_be32(packet, 0x45000000 | length);
	at = roce_be32(at, 1 << 16);
	at = roce_be32(at, 64 << 24 | IPPROTO_UDP << 16);
	at = roce_be32(at, INADDR_LOOPBACK);
	roce_be32(at, INADDR_LOOPBACK);
	at = roce_be32(udp, 0xc000 << 16 | 4791);
	roce_be32(at, (8 + payload) << 16);
	at = roce_be32(bth, (uint32_t)p->opcode << 24 | 0xffff);
	at = roce_be32(at, p->qpn);
	at = roce_be32(at, (ack ? 0 : 1U << 31) | p->psn);
	if (p->opcode == ROCE_FLUSH)
		at = roce_be32(at, p->flush);
	if (ack) {
		roce_be32(at, 0x1f000000);	/* and go on sending */
	} else {
		at = roce_be32(at, p->va >> 32);
		at = roce_be32(at, p->va);
		at = roce_be32(at, p->rkey);
		roce_be32(at, p->length);
	}

	/* The checksum leaves out fields that change on the way. */
	memcpy(masked, packet, length);
	masked[1] = 0xff;		/* type of service */
	masked[8] = 0xff;		/* time to live */
	memset(masked + 10, 0xff, 2);	/* checksums of IP and UDP */
	memset(masked + 26, 0xff, 2);
	masked[28 + 4] = 0xff;		/* reserved bits beside the number of the queue pair */
	icrc = htole32(roce_icrc(masked, length - 4));
	memcpy(packet + length - 4, &icrc, 4);

	fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (fd < 0)
		return -1;
	sent = sendto(fd, packet, length, 0, (struct sockaddr *)&to, sizeof(to));
	close(fd);
	return sent == (ssize_t)length ? 0 : -1;
}

#endif

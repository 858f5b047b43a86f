# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Device memory as a dma-buf.

suite_dmabuf() { "$bin/dmabuf" -T cannot -T many; }
suite_dmabuf_root() { suite_dmabuf; }
suite_dmabuf_iommu() { suite_dmabuf; }

# KASAN keeps what is freed for a while; kmemleak looks there.
suite_dmabuf_many() { "$bin/dmabuf" -t many; }

suite_dmabuf_small_bar() { cannot export; }
suite_dmabuf_unreachable() { cannot import; }

suite_dmabuf_reserved() {
	reload "${exact[@]}" reserved=2 reserved_mb=64 && cannot export
	reload "${exact[@]}"
}

suite_dmabuf_no_kmap() {
	reload "${exact[@]}" kmap=0 && cannot import
	reload "${exact[@]}"
}

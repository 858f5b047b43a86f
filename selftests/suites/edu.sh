# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# QEMU's edu device as a bus master.

# As the machine was made: a BAR that is smaller than the memory.
slots() {
	grep -o 'vram_mb=[0-9]*' <<< "$HMM_P2P_PARAMS"
}

edu_without_iommu() { # OPTION of edu...
	HMM_P2P_EDU=bus "$bin/edu" "$@"
	# The last test of it has written where it should not, to show that it can.
	# shellcheck disable=SC2046
	reload "${exact[@]}" $(slots)
}

# A device with a BAR smaller than its memory exports no scratch memory, so none can be pinned.
suite_edu_bus() { edu_without_iommu -T pinned; }
suite_edu_host_bridge() { edu_without_iommu; }
suite_edu_iommu() { "$bin/edu"; }

suite_edu_no_iova() {
	reload "${exact[@]}" no_iova=1 && HMM_P2P_EDU=no-iova "$bin/edu" -T under_way
	reload "${exact[@]}"
}

# QEMU's edu as the copy engine of a dummy.
suite_dma_copy_bus() { race_module && "$bin/dma_copy"; }
suite_dma_copy_host_bridge() { race_module && "$bin/dma_copy"; }
suite_dma_copy_iommu() { race_module && "$bin/dma_copy"; }

# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The suite of the sample drivers, samples/hmm_p2p.  The exporter's memory is reserved by the
# machine's command line (memmap=).

suite_samples() {
	local status
	export HMM_P2P_SAMPLE="insmod $ko/hmm_p2p_exporter.ko base=0x40000000"
	$HMM_P2P_SAMPLE && insmod "$ko/hmm_p2p_importer.ko" && "$bin/samples"
	status=$?
	rmmod hmm_p2p_exporter hmm_p2p_importer && return $status
}

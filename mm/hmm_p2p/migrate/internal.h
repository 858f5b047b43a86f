/* SPDX-License-Identifier: GPL-2.0 */
/* Private to mm/hmm_p2p/migrate. */
#ifndef _MM_HMM_P2P_MIGRATE_INTERNAL_H
#define _MM_HMM_P2P_MIGRATE_INTERNAL_H

#include "../../internal.h"
#include "../internal.h"

#endif /* _MM_HMM_P2P_MIGRATE_INTERNAL_H */

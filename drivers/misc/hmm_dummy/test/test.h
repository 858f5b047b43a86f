/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private to the files in this folder, which the tests need and a driver does not.
 */
#ifndef _HMM_DUMMY_TEST_H
#define _HMM_DUMMY_TEST_H

#include "../hmm_dummy.h"

/* hooks.c */
extern bool hmm_dummy_offers_kmap;

/* devices.c */
int hmm_dummy_own_add(void);
void hmm_dummy_own_remove(void);

/* shutdown.c */
void hmm_dummy_shutdown_init(void);
void hmm_dummy_shutdown_exit(void);

/* canary.c */
extern bool hmm_dummy_canary;

/* control.c */
void hmm_dummy_control_init(struct hmm_dummy_dev *dev);
void hmm_dummy_control_exit(struct hmm_dummy_dev *dev);

/* held.c */
void hmm_dummy_held_flush(struct hmm_dummy_dev *dev);

/* edu.c */
void hmm_dummy_edu_loose(struct hmm_dummy_edu *edu, bool loose);
void hmm_dummy_edu_show(struct hmm_dummy_edu *edu, struct seq_file *m);

/* dmirror.c */
void hmm_dummy_dmirror_init(struct hmm_dummy_dev *dev);
void hmm_dummy_dmirror_exit(struct hmm_dummy_dev *dev);

#endif /* _HMM_DUMMY_TEST_H */

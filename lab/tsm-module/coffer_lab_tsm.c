// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A provider for configfs-tsm without hardware, for tests in a guest: it answers requests with what lies in its folder.
 *
 *   provider   the name that it gives itself, such as "tdx_guest" or "sev_guest"
 *   outblob    the report
 *   auxblob    what comes with it; may be absent
 *   bind-at    a decimal offset in the report into which the request's bytes are copied; may be absent
 *
 * It proves nothing and is part of no shipped guest. With "bind-at" a report has the right binding and no valid
 * signature; without it, a recorded signature and somebody else's binding.
 */
#include <linux/fs.h>
#include <linux/kernel_read_file.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/tsm.h>
#include <linux/vmalloc.h>

#define FOLDER "/lib/coffer-lab/"
#define LONGEST (1 << 20)

static char provider[32] = "coffer_lab_tsm";
static struct tsm_ops ops = { .name = provider };

/* The file's bytes in memory of kvmalloc, as the core frees them; negative where it is not there. */
static ssize_t content(const char *name, u8 **out)
{
	void *read = NULL;
	ssize_t size = kernel_read_file_from_path(name, 0, &read, LONGEST, NULL, READING_UNKNOWN);

	if (size < 0)
		return size;
	*out = kvmemdup(read, size, GFP_KERNEL);
	vfree(read);
	return *out ? size : -ENOMEM;
}

static int text(const char *name, char *out, size_t room)
{
	u8 *read;
	ssize_t size = content(name, &read);

	if (size < 0)
		return size;
	size = min_t(size_t, size, room - 1);
	memcpy(out, read, size);
	out[size] = 0;
	kvfree(read);
	strim(out);
	return 0;
}

static int report_new(struct tsm_report *report, void *data)
{
	char offset[16];
	unsigned long at;
	u8 *blob;
	ssize_t size = content(FOLDER "outblob", &blob);

	if (size < 0)
		return size;
	if (!text(FOLDER "bind-at", offset, sizeof(offset)) && !kstrtoul(offset, 10, &at) &&
	    at + report->desc.inblob_len <= size)
		memcpy(blob + at, report->desc.inblob, report->desc.inblob_len);
	report->outblob = blob;
	report->outblob_len = size;
	size = content(FOLDER "auxblob", &report->auxblob);
	report->auxblob_len = max_t(ssize_t, size, 0);
	return 0;
}

static bool attribute_visible(int n)
{
	return n == TSM_REPORT_GENERATION || n == TSM_REPORT_PROVIDER || n == TSM_REPORT_PRIVLEVEL ||
	       n == TSM_REPORT_PRIVLEVEL_FLOOR;
}

static bool blob_visible(int n)
{
	return n == TSM_REPORT_INBLOB || n == TSM_REPORT_OUTBLOB || n == TSM_REPORT_AUXBLOB;
}

static int __init lab_init(void)
{
	/* Without a folder there is nothing to answer with: as a driver on a machine without its TEE. */
	if (text(FOLDER "provider", provider, sizeof(provider)))
		return -ENODEV;
	ops.report_new = report_new;
	ops.report_attr_visible = attribute_visible;
	ops.report_bin_attr_visible = blob_visible;
	return tsm_register(&ops, NULL);
}

static void __exit lab_exit(void)
{
	tsm_unregister(&ops);
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_DESCRIPTION("configfs-tsm provider that answers with recorded evidence");
MODULE_LICENSE("Dual MIT/GPL");

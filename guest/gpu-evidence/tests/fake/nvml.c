/* Stands in for libnvidia-ml in tests: two GPUs that answer in the structures of nvml.h, with the nonce where an SPDM
 * request has it. FAKE chooses a defect. */
#include <stdlib.h>
#include <string.h>

struct certificate {
	unsigned int size, attestation_size;
	unsigned char chain[0x1000], attestation[0x1400];
};

struct report {
	unsigned int has_cec, size, cec_size;
	unsigned char nonce[32], report[0x2000], cec[0x1000];
};

static int is(const char *defect)
{
	const char *found = getenv("FAKE");
	return found && !strcmp(found, defect);
}

int nvmlInit_v2(void) { return is("driver") ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device)
{
	*device = (void *)(0x1000ul + index);
	return index < 2 ? 0 : 2;
}

int nvmlDeviceGetArchitecture(void *device, unsigned int *architecture)
{
	*architecture = is("ada") ? 8 : device == (void *)0x1000ul ? 9 : 10;
	return 0;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length)
{
	if (length < 8)
		return 7;
	strcpy(uuid, device == (void *)0x1000ul ? "GPU-0" : "GPU-1");
	return 0;
}

#ifndef OLD
int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, struct report *out)
{
	if (is("refused"))
		return 3;
	memcpy(out->report, "\x11\xe0\x01\xff", 4);
	memcpy(out->report + 4, out->nonce, 32);
	out->size = is("long") ? 0x2001 : is("empty") ? 0 : 200;
	return 0;
}

int nvmlDeviceGetConfComputeGpuCertificate(void *device, struct certificate *out)
{
	strcpy((char *)out->attestation, "-----BEGIN CERTIFICATE-----");
	out->attestation_size = is("chain") ? 0x1401 : 27;
	return 0;
}
#endif

/* Stands in for libnvidia-nscq in tests: one switch that answers in the structures of nscq.h. FAKE chooses a defect. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct uuid { uint8_t bytes[16]; };
struct label { char data[64]; };
struct result { int8_t code; void *session; };
struct report { uint32_t size; uint8_t report[0x2000]; };
struct certificate { uint8_t chain[0x1400]; uint32_t size; };

static struct uuid one = { { 1 } };
static uint8_t nonce[32];

static int is(const char *defect)
{
	const char *found = getenv("FAKE");
	return found && !strcmp(found, defect);
}

static int ends(const char *path, const char *end)
{
	size_t a = strlen(path), b = strlen(end);
	return a >= b && !strcmp(path + a - b, end);
}

struct result nscq_session_create(uint32_t flags)
{
	struct result result = { is("session") ? -7 : 0, &one };
	return result;
}

void nscq_session_destroy(void *session) { }

int8_t nscq_session_set_input(void *session, uint32_t flags, void *data, uint32_t length)
{
	if (length != sizeof(nonce))
		return -5;
	memcpy(nonce, data, length);
	return 0;
}

int8_t nscq_uuid_to_label(const struct uuid *uuid, struct label *label, uint32_t flags)
{
	strcpy(label->data, "SWX-1");
	return 0;
}

int8_t nscq_session_path_observe(void *session, const char *path, void (*callback)(void), void *data, uint32_t flags)
{
	if (!strcmp(path, "/drv/nvswitch/{device}/uuid")) {
		((void (*)(const struct uuid *, int8_t, const struct uuid *, void *))callback)(&one, 0, &one, data);
	} else if (!strcmp(path, "/SWX-1/id/arch")) {
		((void (*)(const struct uuid *, int8_t, int8_t, void *))callback)(&one, 0, is("lr10") ? 1 : 2, data);
	} else if (ends(path, "/config/attestation_report")) {
		struct report report = { is("switch-long") ? 0x2001 : 100 };
		memcpy(report.report, "\x11\xe0\x01\xff", 4);
		memcpy(report.report + 4, nonce, 32);
		((void (*)(const struct uuid *, int8_t, struct report, void *))callback)(
			&one, is("switch-refused") ? -8 : 0, report, data);
	} else if (ends(path, "/config/certificate")) {
		struct certificate certificate = { "-----BEGIN CERTIFICATE-----", 27 };
		((void (*)(const struct uuid *, int8_t, struct certificate, void *))callback)(&one, 0, certificate, data);
	} else {
		return -2;
	}
	return 0;
}

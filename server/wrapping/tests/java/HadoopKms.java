// Hadoop's own key provider client against the Hadoop KMS calls. Usage: HadoopKms kms://http@HOST:PORT/kms

import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.crypto.key.KeyProvider;
import org.apache.hadoop.crypto.key.KeyProviderCryptoExtension;
import org.apache.hadoop.crypto.key.KeyProviderCryptoExtension.EncryptedKeyVersion;
import org.apache.hadoop.crypto.key.KeyProviderFactory;
import org.apache.hadoop.util.VersionInfo;

public class HadoopKms {
    static void check(boolean holds, String claim) {
        if (!holds) {
            throw new AssertionError(claim);
        }
    }

    static String refused(Callable<?> call, String kind) throws Exception {
        try {
            call.call();
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (cause.getClass().getSimpleName().equals(kind)) {
                    return cause.getMessage();
                }
            }
            throw error;
        }
        throw new AssertionError("not refused with " + kind);
    }

    public static void main(String[] arguments) throws Exception {
        Configuration conf = new Configuration();
        KeyProvider provider = KeyProviderFactory.get(new URI(arguments[0]), conf);
        KeyProviderCryptoExtension keys = KeyProviderCryptoExtension.createKeyProviderCryptoExtension(provider);

        KeyProvider.Options options = KeyProvider.options(conf).setBitLength(256).setDescription("a lake");
        Map<String, String> attributes = new HashMap<>();
        attributes.put("insecure_plaintext_over_tls", "true");
        options.setAttributes(attributes);
        check(keys.createKey("lake", options).getVersionName().equals("lake@0"), "the first version is 0");
        check(keys.createKey("shut", KeyProvider.options(conf)).getMaterial() == null, "no material comes back");
        refused(() -> keys.createKey("lake", KeyProvider.options(conf)), "IOException");
        refused(() -> keys.createKey("own", new byte[16], KeyProvider.options(conf).setBitLength(128)),
            "IllegalArgumentException");

        check(keys.getKeys().equals(Arrays.asList("lake", "shut")), "names");
        KeyProvider.Metadata metadata = keys.getMetadata("lake");
        check(metadata.getBitLength() == 256 && metadata.getVersions() == 1, "metadata");
        check(metadata.getDescription().equals("a lake"), "description");
        check(keys.getMetadata("none") == null, "metadata of no key is null");
        check(keys.getKeysMetadata("lake", "shut").length == 2, "metadata of two");

        EncryptedKeyVersion encrypted = keys.generateEncryptedKey("lake");
        KeyProvider.KeyVersion plain = keys.decryptEncryptedKey(encrypted);
        check(plain.getVersionName().equals("EK") && plain.getMaterial().length == 32, "a key of 256 bits");

        check(keys.rollNewVersion("lake").getVersionName().equals("lake@1"), "the second version is 1");
        keys.invalidateCache("lake");
        check(keys.getCurrentKey("lake").getVersionName().equals("lake@1"), "the current version");
        check(keys.getKeyVersions("lake").size() == 2, "two versions");
        refused(() -> keys.getKeyVersion("lake@0"), "AuthorizationException");
        EncryptedKeyVersion again = keys.reencryptEncryptedKey(encrypted);
        check(again.getEncryptionKeyVersionName().equals("lake@1"), "encrypted again under the latest");
        check(Arrays.equals(keys.decryptEncryptedKey(again).getMaterial(), plain.getMaterial()), "the same key");
        List<EncryptedKeyVersion> batch = new ArrayList<>(Arrays.asList(encrypted, again));
        keys.reencryptEncryptedKeys(batch);
        for (EncryptedKeyVersion one : batch) {
            check(one.getEncryptionKeyVersionName().equals("lake@1"), "a batch is under the latest");
            check(Arrays.equals(keys.decryptEncryptedKey(one).getMaterial(), plain.getMaterial()), "and the same");
        }

        byte[] changed = encrypted.getEncryptedKeyVersion().getMaterial().clone();
        changed[changed.length - 1] ^= 1;
        EncryptedKeyVersion twin = EncryptedKeyVersion.createForDecryption(
            "lake", "lake@0", encrypted.getEncryptedKeyIv(), changed);
        refused(() -> keys.decryptEncryptedKey(twin), "GeneralSecurityException");
        EncryptedKeyVersion shut = keys.generateEncryptedKey("shut");
        String why = refused(() -> keys.decryptEncryptedKey(shut), "AuthorizationException");
        check(why.contains("insecure_plaintext_over_tls"), why);
        refused(() -> { keys.deleteKey("lake"); return null; }, "AuthorizationException");
        System.out.println("hadoop " + VersionInfo.getVersion());
        System.out.println("all done");
        System.exit(0);
    }
}

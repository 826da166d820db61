//! Randomness: numbers that tell nothing about each other, all made from one secret.

use core::fmt;
use core::hash::Hasher;
use core::net::IpAddr;

use homa_wire::RpcId;
use siphasher::sip::SipHasher24;

use crate::addr::PeerKey;

/// Seed of all random choices of an engine: 128 secret bits.
///
/// It determines every number that the engine will choose, so it must come from the system's source
/// of randomness, except in tests, where a plain `u64` makes a run repeatable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 16]);

impl From<[u8; 16]> for Seed {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl From<u64> for Seed {
    /// A seed for tests: it has no more than 64 bits.
    fn from(number: u64) -> Self {
        Self(u128::from(number).to_le_bytes())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Purpose of a number. Numbers for different purposes are independent.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    HashSeed,
    Incarnation,
    RpcIds,
}

/// A keyed one-way function (SipHash-2-4, a pseudo-random function): numbers that leave the engine
/// tell nothing about the secret, nor about the numbers for others.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    seed: Seed,
}

impl Secret {
    pub(crate) const fn new(seed: Seed) -> Self {
        Self { seed }
    }

    /// Seed of the hash table `table`.
    pub(crate) fn hash_seed(&self, table: u8) -> u64 {
        let mut hasher = self.hasher(Purpose::HashSeed);
        hasher.write_u8(table);
        hasher.finish()
    }

    /// The incarnation by which an IP address knows the engine: 24 bits, not 0.
    pub(crate) fn incarnation(&self, ip: IpAddr) -> u32 {
        let mut hasher = self.hasher(Purpose::Incarnation);
        write_ip(&mut hasher, ip);
        let number = hasher.finish() % 0x00FF_FFFF;
        u32::try_from(number).unwrap_or(0).saturating_add(1)
    }

    /// Where the ids of RPCs that a peer serves begin: even.
    pub(crate) fn first_id(&self, peer: &PeerKey) -> u64 {
        let mut hasher = self.hasher(Purpose::RpcIds);
        write_ip(&mut hasher, peer.ip);
        hasher.write_u16(peer.port);
        RpcId(hasher.finish()).of_client().0
    }

    fn hasher(&self, purpose: Purpose) -> SipHasher24 {
        let mut hasher = SipHasher24::new_with_key(&self.seed.0);
        hasher.write_u8(purpose as u8);
        hasher
    }
}

fn write_ip(hasher: &mut SipHasher24, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    fn secret(seed: u64) -> Secret {
        Secret::new(Seed::from(seed))
    }

    #[test]
    fn the_function_is_siphash_2_4() {
        // The example in the appendix of the SipHash paper: 15 bytes under the key 00 01 .. 0f.
        let key = core::array::from_fn(|at| at as u8);
        let mut hasher = SipHasher24::new_with_key(&key);
        for byte in 0..15 {
            hasher.write_u8(byte);
        }
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn incarnations_are_24_bits_without_zero_and_one_per_address() {
        let secret = secret(7);
        let all: BTreeSet<u32> = (0..=u16::MAX)
            .map(|n| secret.incarnation(IpAddr::from([10, 0, (n >> 8) as u8, n as u8])))
            .collect();
        assert!(all.iter().all(|number| (1..1 << 24).contains(number)));
        assert!(all.len() > 65_000, "{} of 65,536 differ: few meet by chance", all.len());
    }

    #[test]
    fn an_address_is_the_same_in_both_of_its_forms() {
        let secret = secret(7);
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(secret.incarnation(v4), secret.incarnation(mapped));
    }

    #[test]
    fn numbers_differ_by_secret_purpose_and_peer() {
        let peer = |port| PeerKey { ip: IpAddr::from([10, 0, 0, 1]), port };
        let all: BTreeSet<u64> = [secret(1), secret(2)]
            .iter()
            .flat_map(|secret| {
                [
                    secret.hash_seed(0),
                    secret.hash_seed(1),
                    secret.first_id(&peer(1)),
                    secret.first_id(&peer(2)),
                    u64::from(secret.incarnation(peer(1).ip)),
                ]
            })
            .collect();
        assert_eq!(all.len(), 10);
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(alloc::format!("{:?}", secret(7)), "Secret { seed: Seed(..) }");
    }
}

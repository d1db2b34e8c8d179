"""The real engine and real SQL under a seeded scheduler, with a broker that loses, copies and reorders."""

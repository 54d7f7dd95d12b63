"""What tests share: trainings to compare, ranks as processes, faults to plant, servers and browsers."""

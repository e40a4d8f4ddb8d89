"""What several tests share: worlds that are known exactly, small networks, results made up, commands."""

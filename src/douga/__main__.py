from douga.apps.cli import main

main()
